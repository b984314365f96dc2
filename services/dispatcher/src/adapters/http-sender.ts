// One POST: no redirects, no decompression, a bounded body, one deadline over the whole attempt.
import { Agent, type Dispatcher } from "undici";
import type { Logger } from "@pipeline/shared/logger";
import { errorMessage } from "@pipeline/shared/errors";
import type { SendFailure, SendResult } from "../core/outcome.ts";
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
/** Past this a body is cut off; its status decides all the same. */
const READ_BODY_BYTES = 64 * 1024;

// Certificates get renewed and DNS repaired, so those failures are worth another attempt like any other network error.
const NETWORK_ERROR =
  /^(ECONN|EPIPE|EHOST|ENET|ENOTFOUND|EAI_|EADDR|EPROTO|ETIMEDOUT|UND_ERR_SOCKET|UND_ERR_RESPONSE|UND_ERR_DESTROYED|UND_ERR_CLOSED|HPE_|ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|ERR_OSSL|ERR_STREAM_PREMATURE|UND_ERR_REQ_CONTENT|UND_ERR_RES_CONTENT)/;

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

async function readBeginning(
  body: Dispatcher.ResponseData["body"],
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= READ_BODY_BYTES) break; // leaving the loop destroys the body and with it the connection
  }
  const text = Buffer.concat(chunks).toString("utf8");
  // Postgres text holds no NUL, and cutting may leave half a surrogate pair.
  return text
    .slice(0, KEPT_BODY_CHARACTERS)
    .replaceAll("\0", "")
    .toWellFormed();
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
    // The attempt's own deadline covers all of it; undici's timers are coarse and leave out the time in its queue.
    headersTimeout: 0,
    bodyTimeout: 0,
  });

  function describe(error: unknown): SendFailure {
    if (error instanceof BlockedAddressError)
      return failure("blocked", error.message);
    const name = error instanceof Error ? error.name : "";
    const code = (error as { code?: unknown }).code;
    if (name === "TimeoutError" || code === "UND_ERR_CONNECT_TIMEOUT") {
      return failure(
        "timeout",
        name === "TimeoutError"
          ? `no answer within ${attemptTimeoutMs} ms`
          : "connect timeout",
      );
    }
    if (code === "UND_ERR_INVALID_ARG")
      return failure(
        "invalid",
        "the request's URL or headers are not valid HTTP",
      );
    if (typeof code !== "string" || !NETWORK_ERROR.test(code)) {
      // An unknown code must end as a classified failure, never as an entry that no one settles.
      logger.warn(
        { code, errorName: name },
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
        const response = await agent.request({
          origin,
          path: pathname + search,
          method: "POST",
          headers,
          body,
          signal: AbortSignal.timeout(attemptTimeoutMs),
        });
        const text = await readBeginning(response.body);
        return {
          kind: "answer",
          status: response.statusCode,
          headers: flatten(response.headers),
          body: text,
        };
      } catch (error) {
        return describe(error);
      }
    },
    close: () => agent.destroy(),
  };
}
