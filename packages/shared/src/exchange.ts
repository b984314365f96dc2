// One call to PostgREST over HTTP. For a batch of 100 rows, undici's `fetch` costs more time than PostgREST itself; its
// `request` costs a third of that.
import { type Dispatcher, request } from "undici";
import {
  contactOf,
  type DatabaseError,
  NO_ANSWER,
  NOT_SENT,
} from "./database-fault.ts";
import { errorMessage } from "./errors.ts";

export interface Exchanged {
  status: number;
  headers: Record<string, string>;
  text: string;
}

export interface ExchangeOptions {
  /** Bounds the call, its repetition included. */
  timeoutMs: number;
  dispatcher: Dispatcher;
}

export interface Call {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: string | null;
}

/** What Node and undici say before a byte of the request has left. */
const BEFORE_SENDING = new Set([
  "ECONNREFUSED",
  "EAI_AGAIN",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Its second call would meet what the first has done. */
const NOT_REPEATABLE = /\/rpc\/restart_delivery(?:\?|$)/;

/** The error in the answer of PostgREST, or the words of whoever answered in its place. */
export function errorIn(text: string): DatabaseError {
  try {
    const { message, code } = JSON.parse(text) as Record<string, unknown>;
    return {
      message: typeof message === "string" ? message : text,
      code: typeof code === "string" ? code : undefined,
    };
  } catch {
    return { message: text }; // an error page of a gateway
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && BEFORE_SENDING.has(code)
    ? NOT_SENT
    : NO_ANSWER;
}

/**
 * Never rejects: a call without an answer resolves to a 503 with the code NOT_SENT or NO_ANSWER. A call that met a broken
 * connection, here or between PostgREST and Postgres, is made once more: but for one, the services' calls change nothing
 * when they are repeated.
 */
export function createExchange({ timeoutMs, dispatcher }: ExchangeOptions) {
  async function attempt(call: Call, signal: AbortSignal): Promise<Exchanged> {
    try {
      const response = await request(call.url, {
        method: call.method as "GET",
        headers: call.headers,
        body: call.body,
        dispatcher,
        signal,
      });
      return {
        status: response.statusCode,
        headers: response.headers as Record<string, string>,
        text: await response.body.text(),
      };
    } catch (error) {
      const text = JSON.stringify({
        message: errorMessage(error),
        code: codeOf(error),
      });
      return {
        status: 503,
        headers: { "content-type": "application/json" },
        text,
      };
    }
  }

  return async (call: Call): Promise<Exchanged> => {
    const signal = AbortSignal.timeout(timeoutMs);
    const first = await attempt(call, signal);
    if (first.status < 500 || signal.aborted) return first;
    const contact = contactOf(first.status, errorIn(first.text).code ?? "");
    const isRepeatable =
      contact === "unreached" ||
      (contact === "unanswered" && !NOT_REPEATABLE.test(call.url));
    return isRepeatable ? attempt(call, signal) : first;
  };
}

export type Exchange = ReturnType<typeof createExchange>;
