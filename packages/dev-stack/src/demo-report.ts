import { styleText } from "node:util";
import type { DemoCase } from "./demo-cases.ts";
import type { ReceivedRequest } from "./receiver.ts";

/** What the database says about one delivery in the end. */
export interface RecordedDelivery {
  status: string;
  attempt: number;
  /** One per row of the audit log, in order. */
  attempts: {
    number: number;
    status: number | null;
    errorType: string | null;
  }[];
  leadStatus: string | null;
}

export interface DemoResult {
  demoCase: DemoCase;
  recorded: RecordedDelivery | undefined;
  received: ReceivedRequest[];
  /** The lead's address, which every format must carry. */
  email: string | undefined;
}

export interface Timing {
  delaysSeconds: number[];
  attemptTimeoutMs: number;
}

// What lies between due and sent: 250 ms of the scheduler, and a busy machine.
const punctualityMs = 2_000;

type Comparable = string | number | number[] | null | undefined;

/** Every way in which the result is not what was expected; empty when it is. */
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
  compare("rows in the audit log", expected.attempts, recorded.attempts.length);
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
    const waited = request.receivedAt - before.receivedAt;
    const scheduled =
      Math.max(
        timing.delaysSeconds[index] ?? 0,
        demoCase.expected.retryAfter ?? 0,
      ) * 1000;
    const due =
      scheduled +
      (demoCase.expected.errorType === "timeout" ? timing.attemptTimeoutMs : 0);
    // The two clocks of the comparison are one, but the timestamps are rounded.
    if (waited < due - 20 || waited > due + punctualityMs)
      found.push(
        `attempt ${index + 2} came ${(waited / 1000).toFixed(1)} s after the one before, due was ${due / 1000} s`,
      );
  }
  return found;
}

/** Prints the table and says whether everything agrees. */
export function printReport(results: DemoResult[], timing: Timing): boolean {
  const rows = results.map((result) => {
    const { demoCase, recorded, received } = result;
    const { expected } = demoCase;
    const wrong = differences(result, timing);
    return {
      wrong,
      cells: [
        demoCase.title,
        demoCase.target.replace(/^https?:\/\//, ""),
        `${expected.status}, ${count(expected.attempts, "attempt")}`,
        recorded === undefined
          ? "nothing"
          : `${recorded.status}, ${count(recorded.attempts.length, "attempt")}`,
        received.map((request) => request.statusSent).join(" ") || "nothing",
        [...new Set(received.map((request) => request.signature))].join(" ") ||
          "-",
        recorded?.leadStatus ?? "-",
        wrong.length === 0 ? "as expected" : "DIFFERS",
      ],
    };
  });
  const head = [
    "what",
    "receiver",
    "should be",
    "database says",
    "receiver sent",
    "signature",
    "lead",
    "",
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
  return rows.every((row) => row.wrong.length === 0);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
