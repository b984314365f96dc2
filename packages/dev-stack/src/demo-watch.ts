import { styleText } from "node:util";
import { titleWidth } from "./demo-cases.ts";
import { say } from "./demo-say.ts";
import { requestsOf, type Sent } from "./demo-send.ts";

/** The dispatcher's log line about an attempt, as far as it is shown here. */
interface Attempted {
  msg: string;
  deliveryId: string;
  attempt: number;
  status: number | null;
  error: string | null;
  durationMs: number;
  retryInMs: number | null;
}

/** Shows the attempts in the dispatcher's log. They are kept until `show`, because ids are known only once all is sent. */
export function watchAttempts(): {
  onLine: (line: string) => void;
  show: (sent: Sent[]) => void;
  /** Whether all expected attempts have been shown. */
  isComplete: () => boolean;
} {
  const early: Attempted[] = [];
  let known: Sent[] | undefined;
  let seen = 0;
  return {
    onLine(line) {
      if (!line.includes('"delivery.attempted"')) return;
      const attempted = JSON.parse(line) as Attempted;
      seen += 1;
      if (known === undefined) early.push(attempted);
      else showAttempt(attempted, known);
    },
    show(sent) {
      known = sent;
      console.log();
      for (const attempted of early) showAttempt(attempted, sent);
    },
    isComplete: () =>
      known !== undefined &&
      seen >=
        known.reduce((sum, item) => sum + item.demoCase.expected.attempts, 0),
  };
}

function showAttempt(attempted: Attempted, sent: Sent[]): void {
  const { deliveryId, attempt, status, error, durationMs, retryInMs } =
    attempted;
  const item = sent.find(
    (candidate) =>
      candidate.deliveryId === deliveryId ||
      requestsOf(candidate)[0]?.webhookId === deliveryId,
  );
  const request = item && requestsOf(item)[attempt - 1];
  const title = (item?.demoCase.title ?? deliveryId).padEnd(titleWidth);
  const answer =
    status === null
      ? (error ?? "no answer")
      : `HTTP ${status} in ${durationMs} ms`;
  const signature =
    request === undefined ? "" : `, signature ${request.signature}`;
  const line = (symbol: string, next: string) =>
    say(symbol, `${title}  attempt ${attempt}  ${answer}${signature}${next}`);
  if (retryInMs !== null)
    line(styleText("yellow", "↻"), `; again in ${retryInMs / 1000} s`);
  else if (error === null) line(styleText("green", "✔"), "");
  else line(styleText("red", "✗"), "; dead letter");
}
