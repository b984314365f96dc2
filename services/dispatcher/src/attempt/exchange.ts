// One request and its answer on one connection.
import type { Dispatcher } from "undici";
import type { HttpAnswer } from "../core/outcome.ts";
import type { Connection } from "./connections.ts";

export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

export type Ended =
  | { kind: "answer"; answer: HttpAnswer }
  /** The connection had been used before, and died before a byte of this answer came: the receiver had closed it, most likely. */
  | { kind: "stale" }
  | { kind: "error"; error: unknown };

const KEPT_BODY_CHARACTERS = 1000;
/** A longer body is cut off here; the status decides all the same. */
const READ_BODY_BYTES = 64 * 1024;

function flatten(
  headers: Record<string, string | string[] | undefined>,
): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined)
      flat[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  return flat;
}

/** The kept beginning of a body. Postgres text holds no NUL, and cutting may leave half a surrogate pair. */
function excerpt(chunks: Buffer[]): string {
  const [first, ...more] = chunks;
  if (first === undefined) return "";
  const text = (more.length === 0 ? first : Buffer.concat(chunks)).toString();
  return text
    .slice(0, KEPT_BODY_CHARACTERS)
    .replaceAll("\0", "")
    .toWellFormed();
}

/** The answer as far as its bytes were seen, when the parser has not reported a status. */
function unparsedAnswer(connection: Connection): HttpAnswer | null {
  const head = connection.watch()?.head() ?? null;
  if (head === null) return null;
  const { status, headers, rest } = head;
  // A chunked body would need the parser.
  const isPlain = headers["transfer-encoding"] === undefined;
  const body = isPlain ? excerpt([rest]) : "";
  return { kind: "answer", status, headers, body };
}

/**
 * Never rejects, and leaves the connection released or closed. Once a status was read it decides: whatever goes wrong with
 * the rest of the answer, the deadline included, ends the exchange with that status.
 */
export function exchange(
  connection: Connection,
  options: Dispatcher.DispatchOptions,
  deadlineMs: number,
): Promise<Ended> {
  return new Promise((resolve) => {
    let isOver = false;
    let status = 0;
    let headers: Record<string, string> = {};
    const chunks: Buffer[] = [];
    let bytes = 0;

    const end = (ended: Ended, isReusable: boolean) => {
      isOver = true;
      clearTimeout(timer);
      resolve(ended);
      // Only after the parser has finished with the answer is it known whether the connection stays open.
      if (isReusable) queueMicrotask(connection.release);
      else connection.close();
    };
    const parsedAnswer = (): HttpAnswer => {
      const body = excerpt(chunks);
      return { kind: "answer", status, headers, body };
    };
    const answered = (isComplete: boolean) =>
      end({ kind: "answer", answer: parsedAnswer() }, isComplete);
    const fail = (error: unknown) => {
      if (isOver) return; // closing the connection fails what is still under way there
      const answer = status === 0 ? unparsedAnswer(connection) : parsedAnswer();
      if (answer !== null) {
        if (error instanceof DeadlineError) answer.isCutShort = true;
        return end({ kind: "answer", answer }, false);
      }
      const watch = connection.watch();
      const isStale =
        !connection.isFresh() &&
        watch?.socket.destroyed === true &&
        !watch.isHeard();
      end(isStale ? { kind: "stale" } : { kind: "error", error }, false);
    };
    const timer = setTimeout(() => fail(new DeadlineError()), deadlineMs);

    connection.client.dispatch(options, {
      onRequestStart: () => connection.watch()?.begin(),
      onResponseStart: (_controller, statusCode, received) => {
        if (statusCode < 200) return;
        status = statusCode;
        headers = flatten(received);
        connection.watch()?.forget();
      },
      onResponseData: (_controller, chunk) => {
        if (isOver) return;
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes >= READ_BODY_BYTES) answered(false);
      },
      onResponseEnd: () => {
        if (!isOver) answered(true);
      },
      onResponseError: (_controller, error) => fail(error),
    });
  });
}
