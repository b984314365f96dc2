// Fills the queue before a case, and waits until it is empty again.
import { setTimeout as sleep } from "node:timers/promises";
import { postBatch } from "./load.ts";
import { samplePayload } from "./payload.ts";
import { residentMegabytes } from "./process-usage.ts";
import type { Rig } from "./rig.ts";

const CHUNK = 1000;
const FILLERS = 4;

/** Queues deliveries with plain XADD, as any producer may. They have no rows in Postgres yet. */
export async function fillWithXadd(
  rig: Rig,
  count: number,
  url: string,
): Promise<void> {
  for (let from = 0; from < count; from += CHUNK) {
    const pipeline = rig.redis.pipeline();
    for (let index = from; index < Math.min(from + CHUNK, count); index++) {
      const fields = {
        webhook_url: url,
        payload: samplePayload(index),
        secret: "bench",
      };
      pipeline.xadd(rig.keys.stream, "*", ...Object.entries(fields).flat());
    }
    await pipeline.exec();
  }
}

/** Queues deliveries through ingest's batch endpoint. Resolves to the memory that ingest used meanwhile. */
export async function fillThroughIngest(
  rig: Rig,
  count: number,
  url: string,
): Promise<Memory> {
  const ingest = await rig.start("ingest", { MAX_QUEUE_LENGTH: "10000000" });
  const memory = watchMemory(ingest.pid, count);
  const target = { apiUrl: ingest.url, webhookUrl: url };
  let next = 0;
  let done = 0;
  const work = async () => {
    while (next < count) {
      const from = next;
      const size = Math.min(CHUNK, count - from);
      next += size;
      await postBatch(target, from, size);
      done += size;
      memory.look(done);
    }
  };
  await Promise.all(Array.from({ length: FILLERS }, work));
  await ingest.stop();
  return memory.seen;
}

/** Resident megabytes of a process at the first look, and after a tenth, half and all of the work. */
export interface Memory {
  start: number;
  tenth: number;
  middle: number;
  end: number;
}

export function watchMemory(pid: number, count: number) {
  const seen: Memory = { start: 0, tenth: 0, middle: 0, end: 0 };
  return {
    seen,
    look: (done: number) => {
      seen.end = residentMegabytes(pid);
      if (seen.start === 0) seen.start = seen.end;
      if (seen.tenth === 0 && done >= count / 10) seen.tenth = seen.end;
      if (seen.middle === 0 && done >= count / 2) seen.middle = seen.end;
    },
  };
}

/** Deliveries that are queued or in flight, retries to come, and attempts not yet recorded. */
export async function unfinished(rig: Rig): Promise<number> {
  const [stream, retries, log] = await Promise.all([
    rig.redis.xlen(rig.keys.stream),
    rig.redis.zcard(rig.keys.retries),
    rig.redis.xlen(rig.keys.log),
  ]);
  return stream + retries + log;
}

/** Calls `onLook` with the number left up to fifty times a second. */
export async function untilFinished(
  rig: Rig,
  timeoutMs: number,
  onLook: (left: number) => void = () => undefined,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const left = await unfinished(rig);
    onLook(left);
    if (left === 0) return;
    if (performance.now() > deadline)
      throw new Error(
        `${left} deliveries are unfinished after ${timeoutMs / 1000} s`,
      );
    await sleep(20);
  }
}

/** How many deliveries are recorded as successful. */
export async function succeeded(rig: Rig): Promise<number> {
  const { rows } = await rig.database.query(
    "select count(*)::int as n from webhook_deliveries where status = 'success'",
  );
  return rows[0].n;
}
