import { type Logger, pino, stdTimeFunctions } from "pino";

/** JSON lines on stdout. Fields are chosen by the caller; payloads, secrets, e-mail addresses and full URLs never are. */
export function createLogger(service: string, level: string): Logger {
  return pino({
    level,
    base: { service },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: [
        "secret",
        "payload",
        "headers",
        "webhookUrl",
        "*.secret",
        "*.payload",
      ],
      censor: "(redacted)",
    },
  });
}

export type { Logger };
