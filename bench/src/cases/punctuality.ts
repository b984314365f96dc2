// Retries become due at a steady rate for a minute: how late does each arrive at the receiver?
import { randomUUID } from "node:crypto";
import { createReconcileQueue } from "@pipeline/shared/queue/reconcile";
import { samplePayload } from "../payload.ts";
import { untilFinished } from "../queue.ts";
import { UNLIMITED } from "../rig.ts";
import { percentile } from "../statistics.ts";
import { type Case, withoutGoal } from "./case.ts";

const COUNT = 10_000;

export const punctualityCase: Case = {
  name: "punctuality",
  run: async ({ rig, quick, progress }) => {
    await rig.reset();
    const queue = createReconcileQueue(rig.redis, rig.keys);
    const spreadMs = quick ? 10_000 : 60_000;
    const count = quick ? Math.round(COUNT / 6) : COUNT;
    const firstAt = Date.now() + 5000;
    for (let from = 0; from < count; from += 200) {
      const length = Math.min(200, count - from);
      await queue.reinject(
        Array.from({ length }, (_, i) => {
          const dueAt = firstAt + Math.floor(((from + i) * spreadMs) / count);
          const id = randomUUID();
          const fields = {
            id,
            webhook_url: `${rig.receiverUrl}/ok?at=${dueAt}`,
            payload: samplePayload(from + i),
            attempt: "2",
            secret: "bench",
          };
          return { id, dueAt, fields };
        }),
      );
    }
    await rig.start("dispatcher", UNLIMITED);
    await rig.start("retry-scheduler");
    progress(`${count} retries over ${spreadMs / 1000} s`);
    await untilFinished(rig, spreadMs + 30_000);
    const latenessMs = (await rig.takeReceiverStats()).lateness;
    await rig.stopServices();
    return {
      "lateness, p50": percentile(latenessMs, 0.5),
      "lateness, p99": percentile(latenessMs, 0.99),
      "lateness, minimum": Math.min(...latenessMs),
      retries: latenessMs.length,
    };
  },
  figures: [
    {
      figure: "lateness, p50",
      unit: "ms",
      goal: "≤ 100 ms",
      isMet: (ms) => ms <= 100,
    },
    {
      figure: "lateness, p99",
      unit: "ms",
      goal: "≤ 300 ms",
      isMet: (ms) => ms <= 300,
    },
    {
      figure: "lateness, minimum",
      unit: "ms",
      goal: "≥ 0 ms",
      isMet: (ms) => ms >= 0,
    },
    withoutGoal("retries", ""),
  ],
};
