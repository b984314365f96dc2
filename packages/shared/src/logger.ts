import { type Logger, type LoggerOptions, pino, stdTimeFunctions } from "pino";

const FLUSH_BYTES = 32_768;
const FLUSH_INTERVAL_MS = 200;

/** An error's own words and no more: ioredis hangs the whole command on its errors, and with it payload and URL. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack, cause } = error;
  return {
    type: name,
    message,
    code: (error as { code?: unknown }).code,
    stack,
    cause: cause instanceof Error ? cause.message : undefined,
  };
}

/** JSON lines on stdout. Fields are chosen by the caller; payloads, secrets, e-mail addresses and full URLs never are. */
export function createLogger(service: string, level: string): Logger {
  // One write per line would be a tenth of a delivery's cost. A kill -9 loses the last fifth of a second of lines; an exit
  // loses none.
  const destination = pino.destination({
    dest: 1,
    sync: false,
    minLength: FLUSH_BYTES,
    maxWrite: 2 * FLUSH_BYTES, // must be larger
  });
  setInterval(() => destination.flush(), FLUSH_INTERVAL_MS).unref();
  const options: LoggerOptions = {
    level,
    base: { service },
    timestamp: stdTimeFunctions.isoTime,
    serializers: { err: describeError },
    formatters: { level: (label) => ({ level: label }) },
    // The code logs named fields only; this is for the day someone logs an object that holds more.
    redact: {
      paths: ["secret", "payload", "headers", "webhookUrl"],
      censor: "(redacted)",
    },
  };
  return pino(options, destination);
}

export type { Logger };
