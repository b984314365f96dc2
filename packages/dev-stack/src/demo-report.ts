import { styleText } from "node:util";
import type { DemoCase } from "./demo-cases.ts";
import type { ReceivedRequest } from "./receiver.ts";

/** What the database says about one delivery at the end. */
export interface RecordedDelivery {
  status: string;
  /** The delivery's rows in webhook_delivery_logs, in order. */
  attempts: {
    status: number | null;
    errorType: string | null;
  }[];
  leadStatus: string | null;
}

export interface DemoResult {
  demoCase: DemoCase;
  recorded: RecordedDelivery | undefined;
  received: ReceivedRequest[];
  /** The lead's address, which must be in the body in every format. */
  email: string | undefined;
}

export interface Timing {
  delaysSeconds: number[];
  attemptTimeoutMs: number;
}

// How late a retry may be: the retry-scheduler promises 250 ms, and the machine may be busy.
const lateMs = 2_000;
// `receivedAt` is rounded to milliseconds, and a timeout starts to run shortly before the request arrives.
const earlyMs = 20;

type Comparable = string | number | number[] | null | undefined;

/** Every way in which the result differs from what was expected. */
export function differences(result: DemoResult, timing: Timing): string[] {
  const { demoCase, recorded, received, email } = result;
  const { expected } = demoCase;
  const found: string[] = [];
  const compare = (what: string, should: Comparable, is: Comparable) => {
    const [expectedText, text] = [should, is].map(
      (value) => String(value ?? "") || "none",
    );
    if (text !== expectedText)
      found.push(`${what}: ${text} instead of ${expectedText}`);
  };

  if (recorded === undefined) return ["no row in webhook_deliveries"];
  compare("status in the database", expected.status, recorded.status);
  compare(
    "rows in webhook_delivery_logs",
    expected.attempts,
    recorded.attempts.length,
  );
  if (expected.errorType !== undefined)
    compare(
      "error type",
      expected.errorType,
      recorded.attempts.at(-1)?.errorType,
    );
  compare(
    "answers of the receiver",
    expected.answers,
    received.map((request) => request.statusSent),
  );
  if (demoCase.via === "lead")
    compare(
      "lead",
      expected.status === "success" ? "webhook_sent" : "email_captured",
      recorded.leadStatus,
    );

  const signature = demoCase.secret === undefined ? "unsigned" : "valid";
  for (const request of received)
    compare("signature", signature, request.signature);
  if (new Set(received.map((request) => request.webhookId)).size > 1)
    found.push("webhook-id changed between attempts");
  if (new Set(received.map((request) => request.body)).size > 1)
    found.push("body changed between attempts");
  if (
    email !== undefined &&
    received.some((request) => !request.body.includes(email))
  )
    found.push(`the body does not carry ${email}`);
  return [...found, ...lateOrEarly(result, timing)];
}

function lateOrEarly(
  { demoCase, received }: DemoResult,
  timing: Timing,
): string[] {
  const found: string[] = [];
  for (const [index, request] of received.slice(1).entries()) {
    const before = received[index];
    if (before === undefined) continue;
    const waitedMs = request.receivedAt - before.receivedAt;
    const scheduledMs =
      Math.max(
        timing.delaysSeconds[index] ?? 0,
        demoCase.expected.retryAfterSeconds ?? 0,
      ) * 1000;
    const dueMs =
      scheduledMs +
      (demoCase.expected.errorType === "timeout" ? timing.attemptTimeoutMs : 0);
    if (waitedMs < dueMs - earlyMs || waitedMs > dueMs + lateMs)
      found.push(
        `attempt ${index + 2} came ${(waitedMs / 1000).toFixed(1)} s after the one before it instead of ${dueMs / 1000} s`,
      );
  }
  return found;
}

/** Prints a table of at most 100 columns. Returns whether everything is as expected. */
export function printReport(results: DemoResult[], timing: Timing): boolean {
  const rows = results.map((result) => {
    const { demoCase, recorded, received } = result;
    const { expected } = demoCase;
    const wrong = differences(result, timing);
    return {
      wrong,
      cells: [
        `${wrong.length === 0 ? "✔" : "✗"} ${demoCase.title}`,
        `${expected.status}, ${count(expected.attempts, "attempt")}`,
        recorded === undefined
          ? "nothing"
          : `${recorded.status}, ${count(recorded.attempts.length, "attempt")}`,
        received.map((request) => request.statusSent).join(" ") || "nothing",
        [...new Set(received.map((request) => request.signature))].join(" ") ||
          "-",
      ],
    };
  });
  const head = [
    "  delivery",
    "should be",
    "database says",
    "receiver sent",
    "signature",
  ];
  const widths = head.map((title, column) =>
    Math.max(
      title.length,
      ...rows.map((row) => row.cells[column]?.length ?? 0),
    ),
  );
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  console.log(`\n${styleText("bold", line(head))}`);
  console.log(
    styleText("dim", widths.map((width) => "─".repeat(width)).join("  ")),
  );
  for (const row of rows) {
    console.log(
      styleText(row.wrong.length === 0 ? "green" : "red", line(row.cells)),
    );
    for (const difference of row.wrong)
      console.log(styleText("red", `    ${difference}`));
  }
  console.log(`\nLeads at the end: ${leadStatuses(results)}`);
  return rows.every((row) => row.wrong.length === 0);
}

/** "7 webhook_sent, 2 email_captured" */
function leadStatuses(results: DemoResult[]): string {
  const counts = new Map<string, number>();
  for (const { recorded } of results) {
    const status = recorded?.leadStatus;
    if (status) counts.set(status, (counts.get(status) ?? 0) + 1);
  }
  return [...counts]
    .map(([status, number]) => `${number} ${status}`)
    .join(", ");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
