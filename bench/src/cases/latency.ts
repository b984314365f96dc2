// How long one delivery takes at a steady 200/s: until 202, until it arrives, until its attempt is recorded in Postgres.
import { postOne, steadily } from "../load.ts";
import { untilFinished } from "../queue.ts";
import { UNLIMITED } from "../rig.ts";
import { percentile } from "../statistics.ts";
import { type Case, withoutGoal } from "./case.ts";

const RATE = 200;

export const latencyCase: Case = {
  name: "latency",
  run: async ({ rig, quick, progress }) => {
    await rig.reset();
    const ingest = await rig.start("ingest");
    await rig.start("dispatcher", UNLIMITED);
    await rig.start("retry-scheduler");
    const answerMs: number[] = [];
    const send = async (index: number, isCounted: boolean) => {
      const startedAt = performance.now();
      // The receiver measures from this moment on. It is in the URL because the API takes no headers for the request.
      const webhookUrl = `${rig.receiverUrl}/ok?at=${Date.now()}`;
      await postOne({ apiUrl: ingest.url, webhookUrl }, index);
      if (isCounted) answerMs.push(performance.now() - startedAt);
    };
    await steadily(RATE, 3, (index) => send(index, false));
    await untilFinished(rig, 10_000);
    await rig.takeReceiverStats();
    await rig.database.query("truncate webhook_deliveries cascade");
    progress(`${RATE}/s`);
    await steadily(RATE, quick ? 10 : 20, (index) => send(index, true));
    await untilFinished(rig, 10_000);
    const arrivalMs = (await rig.takeReceiverStats()).lateness;
    const { rows } = await rig.database.query(
      "select extract(epoch from updated_at - sent_at) * 1000 as ms from webhook_deliveries where status = 'success'",
    );
    const recordedMs = rows.map(({ ms }) => Number(ms));
    await rig.stopServices();
    return {
      "until 202, p50": percentile(answerMs, 0.5),
      "until 202, p99": percentile(answerMs, 0.99),
      "until arrival, p50": percentile(arrivalMs, 0.5),
      "until arrival, p99": percentile(arrivalMs, 0.99),
      "until recorded, p99": percentile(recordedMs, 0.99),
      samples: answerMs.length,
    };
  },
  figures: [
    ...(
      [
        ["until 202, p50", 10],
        ["until 202, p99", 30],
        ["until arrival, p50", 10],
        ["until arrival, p99", 50],
        ["until recorded, p99", 500],
      ] as const
    ).map(([figure, most]) => ({
      figure,
      unit: "ms",
      goal: `≤ ${most} ms`,
      isMet: (ms: number) => ms <= most,
    })),
    withoutGoal("samples", ""),
  ],
};
