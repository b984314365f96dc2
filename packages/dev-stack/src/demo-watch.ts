import { styleText } from "node:util";
import { requestsOf, type Sent } from "./demo-send.ts";

const startedAt = Date.now();

/** One line with the time since the start. */
export function say(symbol: string, text: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1).padStart(6);
  console.log(`${styleText("dim", `${seconds} s`)}  ${symbol} ${text}`);
}

/** The fields of the dispatcher's line about an attempt that are shown here. */
interface Attempted {
  msg: string;
  deliveryId: string;
  attempt: number;
  status: number | null;
  error: string | null;
  durationMs: number;
  retryInMs: number | null;
}

/** Turns the dispatcher's log into lines for people. They wait until everything is sent, because only then all ids are known. */
export function watchAttempts(): {
  onLine: (line: string) => void;
  show: (sent: Sent[]) => void;
  /** Whether as many attempts were shown as were expected. */
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
      seen >= sum((known ?? []).map((item) => item.demoCase.expected.attempts)),
  };
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
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
  const what = `${(item?.demoCase.title ?? deliveryId).padEnd(24)} attempt ${attempt}`;
  const answer = status === null ? (error ?? "no answer") : `HTTP ${status}`;
  const facts = `${answer}, ${durationMs} ms${request === undefined ? "" : `, signature ${request.signature}`}`;
  if (retryInMs !== null)
    say(
      styleText("yellow", "↻"),
      `${what}  ${facts}; again in ${retryInMs / 1000} s`,
    );
  else if (error === null) say(styleText("green", "✔"), `${what}  ${facts}`);
  else
    say(
      styleText("red", "✗"),
      `${what}  ${facts}; given up, kept as a dead letter`,
    );
}
