// An error of the HTTP client, of TLS, of a socket or of DNS, as an attempt's failure.
import { errors } from "undici";
import { errorMessage } from "@pipeline/shared/errors";
import type { Logger } from "@pipeline/shared/logger";
import type { SendFailure } from "../core/outcome.ts";
import { DnsError } from "../dns/query.ts";
import { DeadlineError } from "./exchange.ts";
import { BlockedAddressError } from "./guarded-connector.ts";

// Certificates are renewed and DNS is repaired, so these failures are worth another attempt like any other network error.
const NETWORK_CODES = [
  "CERT_",
  "DEPTH_ZERO",
  "EADDR",
  "ECONN",
  "EHOST",
  "ENET",
  "EPIPE",
  "EPROTO",
  "ERR_BAD_ANSWER",
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
  "UND_ERR_HEADERS_OVERFLOW",
  "UND_ERR_REQ_CONTENT",
  "UND_ERR_RES_CONTENT",
  "UND_ERR_RESPONSE",
  "UND_ERR_SOCKET",
];

function isNetworkError(error: unknown, code: unknown): boolean {
  // It has no code when undici does not know the parser's.
  if (error instanceof errors.HTTPParserError) return true;
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

export function createDescribeFailure(
  attemptTimeoutMs: number,
  logger: Logger,
) {
  return (error: unknown): SendFailure => {
    if (error instanceof BlockedAddressError)
      return failure("blocked", error.message);
    if (error instanceof DnsError) return failure("network", error.message);
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
    if (!isNetworkError(error, code)) {
      // An unknown code must end as a classified failure, never as an entry that no one settles.
      logger.warn(
        { code, errorName: (error as Error).name },
        "attempt.failed_with_unknown_code",
      );
    }
    // Several addresses were tried: the first failure speaks for all.
    const cause = error instanceof AggregateError ? error.errors[0] : error;
    return failure("network", errorMessage(cause) || String(code));
  };
}
