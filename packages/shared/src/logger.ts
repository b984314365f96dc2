import { type Logger, type LoggerOptions, pino, stdTimeFunctions } from "pino";

const FLUSH_BYTES = 32_768;
const FLUSH_INTERVAL_MS = 200;

/** Only the error's own text: ioredis attaches the whole command to its errors, including payload and URL. */
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

/**
 * Lines go out in blocks, since one write per line would be a tenth of a delivery's cost. A kill -9 loses the last fifth of
 * a second of lines; an exit loses none. pino's destination could collect lines itself, but measures all it holds with each
 * line: 11 µs a line instead of 3.
 */
function createBlockWriter(): { write: (line: string) => void } {
  const destination = pino.destination({ dest: 1, sync: false });
  let lines: string[] = [];
  let bytes = 0;
  const flush = (to = destination) => {
    if (lines.length === 0) return;
    const block = lines.join("");
    lines = [];
    bytes = 0;
    to.write(block);
  };
  setInterval(() => flush(), FLUSH_INTERVAL_MS).unref();
  process.once("exit", () => {
    destination.flushSync();
    // Asynchronous writes no longer complete here.
    flush(pino.destination({ dest: 1, sync: true }));
  });
  return {
    write: (line) => {
      lines.push(line);
      bytes += line.length;
      if (bytes >= FLUSH_BYTES) flush();
    },
  };
}

/** One per process, because stdout is shared. */
let stdout: ReturnType<typeof createBlockWriter> | undefined;

/** JSON lines on stdout. Fields are chosen by the caller; payloads, secrets, e-mail addresses and full URLs never are. */
export function createLogger(service: string, level: string): Logger {
  const options: LoggerOptions = {
    level,
    base: { service },
    timestamp: stdTimeFunctions.isoTime,
    serializers: { err: describeError },
    formatters: { level: (label) => ({ level: label }) },
    // The code logs named fields only; this is a safety net for when somebody logs a whole object.
    redact: {
      paths: ["secret", "payload", "headers", "webhookUrl"],
      censor: "(redacted)",
    },
  };
  stdout ??= createBlockWriter();
  return pino(options, stdout);
}

export type { Logger };
