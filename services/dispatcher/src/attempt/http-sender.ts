// One POST: no redirects, no decompression, a bounded body, one deadline over the whole attempt.
import { Agent, type Dispatcher } from "undici";
import type { Logger } from "@pipeline/shared/logger";
import { errorMessage } from "@pipeline/shared/errors";
import type { HttpAnswer, SendFailure, SendResult } from "../core/outcome.ts";
import {
  BlockedAddressError,
  createGuardedConnector,
} from "./guarded-connector.ts";

export interface SendRequest {
  url: string;
  headers: Record<string, string>;
  body: string;
}

export interface HttpSender {
  /** Never rejects: whatever happens to a request is a result. */
  send: (request: SendRequest) => Promise<SendResult>;
  close: () => Promise<void>;
}

export interface SenderOptions {
  /** The most requests at once, and so the most connections to one origin. */
  concurrency: number;
  attemptTimeoutMs: number;
  isAllowed: (address: string) => boolean;
  logger: Logger;
}

const LONGEST_CONNECT_MS = 10_000;
const KEPT_BODY_CHARACTERS = 1000;
/** A longer body is cut off here; the status decides all the same. */
const READ_BODY_BYTES = 64 * 1024;

// Certificates are renewed and DNS is repaired, so these failures are worth another attempt like any other network error.
const NETWORK_CODES = [
  "CERT_",
  "DEPTH_ZERO",
  "EADDR",
  "EAI_",
  "ECONN",
  "EHOST",
  "ENET",
  "ENOTFOUND",
  "EPIPE",
  "EPROTO",
  "ERR_OSSL",
  "ERR_SSL",
  "ERR_STREAM_PREMATURE",
  "ERR_TLS",
  "ETIMEDOUT",
  "HOSTNAME_MISMATCH",
  "HPE_",
  "SELF_SIGNED",
  "UNABLE_TO",
  "UND_ERR_CLOSED",
  "UND_ERR_DESTROYED",
  "UND_ERR_REQ_CONTENT",
  "UND_ERR_RES_CONTENT",
  "UND_ERR_RESPONSE",
  "UND_ERR_SOCKET",
];

function isNetworkError(code: unknown): boolean {
  return (
    typeof code === "string" &&
    NETWORK_CODES.some((start) => code.startsWith(start))
  );
}

function failure(
  errorType: SendFailure["errorType"],
  error: string,
): SendFailure {
  return { kind: "failure", errorType, error };
}

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

class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

type Answer = Omit<HttpAnswer, "kind">;

/**
 * One exchange over undici's dispatch interface. `undici.request` would add the cost of a stream and an abort signal to each call.
 * Rejects when the answer is not complete by the deadline; a body is complete once `READ_BODY_BYTES` of it are there.
 */
function exchange(
  agent: Agent,
  options: Dispatcher.DispatchOptions,
  deadlineMs: number,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let controller: Dispatcher.DispatchController | undefined;
    let ended: Error | undefined;
    let status = 0;
    let headers: Record<string, string> = {};
    const chunks: Buffer[] = [];
    let bytes = 0;

    const timer = setTimeout(() => end(new DeadlineError()), deadlineMs);
    const succeed = () => {
      clearTimeout(timer);
      resolve({ status, headers, body: excerpt(chunks) });
    };
    const end = (reason: Error) => {
      clearTimeout(timer);
      ended = reason;
      reject(reason); // no effect after `succeed`
      // Until the request has a connection there is no controller; it is then aborted in onRequestStart.
      controller?.abort(reason);
    };

    agent.dispatch(options, {
      onRequestStart: (started) => {
        controller = started;
        if (ended !== undefined) controller.abort(ended);
      },
      onResponseStart: (_controller, statusCode, received) => {
        if (statusCode < 200) return;
        status = statusCode;
        headers = flatten(received);
      },
      onResponseData: (_controller, chunk) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes < READ_BODY_BYTES || ended !== undefined) return;
        succeed();
        end(new Error("the body is longer than what is read of it"));
      },
      onResponseEnd: succeed,
      onResponseError: (_controller, error) => end(error),
    });
  });
}

export function createHttpSender({
  concurrency,
  attemptTimeoutMs,
  isAllowed,
  logger,
}: SenderOptions): HttpSender {
  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    connections: concurrency,
    connect: createGuardedConnector({
      connectTimeoutMs: Math.min(attemptTimeoutMs, LONGEST_CONNECT_MS),
      isAllowed,
    }),
    // The attempt's own deadline covers all of it; undici's timers are coarse and do not count the time that a request waits in its queue.
    headersTimeout: 0,
    bodyTimeout: 0,
  });

  function describe(error: unknown): SendFailure {
    if (error instanceof BlockedAddressError)
      return failure("blocked", error.message);
    if (error instanceof DeadlineError)
      return failure("timeout", `no answer within ${attemptTimeoutMs} ms`);
    const code = (error as { code?: unknown }).code;
    if (code === "UND_ERR_CONNECT_TIMEOUT")
      return failure("timeout", "no connection within the connect timeout");
    if (code === "UND_ERR_INVALID_ARG")
      return failure(
        "invalid",
        "the request's URL or headers are not valid HTTP",
      );
    if (!isNetworkError(code)) {
      // An unknown code must end as a classified failure, never as an entry that no one settles.
      logger.warn(
        { code, errorName: (error as Error).name },
        "attempt.failed_with_unknown_code",
      );
    }
    // Several addresses were tried: the first failure speaks for all.
    const cause = error instanceof AggregateError ? error.errors[0] : error;
    return failure("network", errorMessage(cause) || String(code));
  }

  return {
    send: async ({ url, headers, body }) => {
      try {
        const { origin, pathname, search } = new URL(url);
        const request = {
          origin,
          path: pathname + search,
          method: "POST",
          headers,
          body,
        } as const;
        return {
          kind: "answer",
          ...(await exchange(agent, request, attemptTimeoutMs)),
        };
      } catch (error) {
        return describe(error);
      }
    },
    close: () => agent.destroy(),
  };
}
