// Filling the queue before a case, and waiting until it is empty again.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createScripts } from "@pipeline/shared/scripts";
import { samplePayload } from "./payload.ts";
import type { Rig } from "./rig.ts";

const CHUNK = 1000;

export interface Filling {
  count: number;
  urlOf: (index: number) => string;
  /** Rows in Postgres first and entries through the enqueue script, as ingest does it; else plain XADD. */
  throughIngest: boolean;
}

export async function fill(
  rig: Rig,
  { count, urlOf, throughIngest }: Filling,
): Promise<void> {
  const scripts = createScripts(rig.redis, rig.keys);
  for (let from = 0; from < count; from += CHUNK) {
    const indices = Array.from(
      { length: Math.min(CHUNK, count - from) },
      (_, i) => from + i,
    );
    const deliveries = indices.map((index) => ({
      id: randomUUID(),
      url: urlOf(index),
      payload: samplePayload(index),
    }));
    if (throughIngest) {
      const rows = deliveries.map(({ id, url, payload }) => ({
        id,
        webhook_url: url,
        payload,
        max_attempts: 4,
      }));
      await rig.database.query("select count(*) from create_deliveries($1)", [
        JSON.stringify(rows),
      ]);
    }
    for (let i = 0; i < deliveries.length; i += 200) {
      const part = deliveries.slice(i, i + 200).map(({ id, url, payload }) => ({
        id,
        fields: {
          webhook_url: url,
          payload,
          secret: "bench",
          ...(throughIngest ? { id, persisted: "1" } : {}),
        },
      }));
      if (throughIngest) {
        await scripts.enqueue(part, 10_000_000);
      } else {
        const pipeline = rig.redis.pipeline();
        for (const { fields } of part)
          pipeline.xadd(rig.keys.stream, "*", ...Object.entries(fields).flat());
        await pipeline.exec();
      }
    }
  }
}

/** Entries not settled, retries not sent, attempts not recorded. */
export async function unfinished(rig: Rig): Promise<number> {
  const [stream, retries, log] = await Promise.all([
    rig.redis.xlen(rig.keys.stream),
    rig.redis.zcard(rig.keys.retries),
    rig.redis.xlen(rig.keys.log),
  ]);
  return stream + retries + log;
}

export async function untilFinished(
  rig: Rig,
  timeoutMs: number,
  onProgress: (left: number) => void,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let reportAt = performance.now() + 2000;
  for (;;) {
    const left = await unfinished(rig);
    if (left === 0) return;
    if (performance.now() > deadline)
      throw new Error(
        `${left} deliveries are unfinished after ${timeoutMs} ms`,
      );
    if (performance.now() > reportAt) {
      onProgress(left);
      reportAt += 2000;
    }
    await sleep(20);
  }
}

export async function succeeded(rig: Rig): Promise<number> {
  const { rows } = await rig.database.query(
    "select count(*)::int as n from webhook_deliveries where status = 'success'",
  );
  return rows[0].n;
}
