// Deliveries through the API: with ingest alone until it answers 202, then on the full path until they are recorded.
import { setTimeout as sleep } from "node:timers/promises";
import { postBatch, postOne, saturate } from "../load.ts";
import { unfinished, untilFinished } from "../queue.ts";
import { UNLIMITED } from "../rig.ts";
import type { Case } from "./case.ts";

const CONCURRENT = 100;
/** A share of R, a little above the goal, because the time until the last delivery is recorded counts as well. */
const OFFERED_SHARE = 0.153;
const SETTINGS = { MAX_QUEUE_LENGTH: "10000000" };
const BATCH = 1000;
const BATCH_CALLERS = 4;

export const apiCase: Case = {
  name: "api",
  run: async ({ rig, reference, quick, progress }) => {
    const seconds = quick ? 5 : 10;
    const webhookUrl = `${rig.receiverUrl}/ok`;
    await rig.reset();
    let ingest = await rig.start("ingest", SETTINGS);
    let accepted = 0;
    const one = async (index: number) => {
      await postOne({ apiUrl: ingest.url, webhookUrl }, index);
      accepted++;
      return 1;
    };
    await saturate(CONCURRENT, 2, one);
    progress("single POSTs, ingest alone");
    const single = await saturate(CONCURRENT, seconds, one);
    progress("batches, ingest alone");
    const batch = await saturate(BATCH_CALLERS, seconds, async (index) => {
      const target = { apiUrl: ingest.url, webhookUrl };
      await postBatch(target, index * BATCH, BATCH);
      accepted += BATCH;
      return BATCH;
    });
    await rig.stopServices();
    // The answer to a batch is 202 even if items in it were refused.
    const { rows } = await rig.database.query(
      "select count(*)::int as n from webhook_deliveries",
    );
    if (rows[0].n !== accepted)
      throw new Error(`${rows[0].n} of ${accepted} deliveries were stored`);
    await rig.reset();

    progress(`full path at ${OFFERED_SHARE} R`);
    ingest = await rig.start("ingest", SETTINGS);
    await rig.start("dispatcher", UNLIMITED);
    await rig.start("retry-scheduler");
    const fullSeconds = quick ? 10 : 60;
    const rate = Math.ceil(OFFERED_SHARE * reference);
    const backlogs: number[] = [];
    const sampler = setInterval(
      () => void unfinished(rig).then((left) => backlogs.push(left)),
      1000,
    );
    const startedAt = performance.now();
    let sent = 0;
    // The loops are paced so that together they send at the rate. If the full path cannot keep up, a backlog grows.
    await saturate(CONCURRENT, fullSeconds, async (index) => {
      const dueMs = (index * 1000) / rate - (performance.now() - startedAt);
      if (dueMs > 0) await sleep(dueMs);
      sent++;
      return one(index);
    });
    const offered = sent / ((performance.now() - startedAt) / 1000);
    clearInterval(sampler);
    await untilFinished(rig, 60_000);
    const full = sent / ((performance.now() - startedAt) / 1000);
    await rig.stopServices();
    const half = Math.floor(backlogs.length / 2);
    return {
      "single POSTs, ingest alone": single,
      "batches, ingest alone": batch,
      "batches vs. single POSTs": batch / single,
      "full path, offered": offered,
      "full path, delivered and recorded": full,
      "full path, backlog in the second half":
        Math.max(0, ...backlogs.slice(half)) / rate,
    };
  },
  figures: [
    {
      figure: "single POSTs, ingest alone",
      unit: "/s",
      goal: "≥ 4,000/s",
      isMet: (rate) => rate >= 4000,
      isRate: true,
    },
    { figure: "batches, ingest alone", unit: "/s", isRate: true },
    {
      figure: "batches vs. single POSTs",
      unit: "×",
      goal: "≥ 3",
      isMet: (ratio) => ratio >= 3,
    },
    { figure: "full path, offered", unit: "/s", isRate: true },
    {
      figure: "full path, delivered and recorded",
      unit: "/s",
      goal: "≥ 0.15 R",
      isMet: (_rate, ratio) => ratio >= 0.15,
      isRate: true,
    },
    {
      figure: "full path, backlog in the second half",
      unit: "s of load",
      goal: "< 1 s",
      isMet: (seconds) => seconds < 1,
    },
  ],
};
