// The services on a stream of the test's own, against the run's shared stack; at the end nothing may be left behind.
import { randomUUID } from "node:crypto";
import {
  DISPATCHERS_GROUP,
  RECORDERS_GROUP,
} from "@pipeline/shared/queue/keys";
import { expect, inject, onTestFailed, onTestFinished } from "vitest";
import { createHarness, NO_WORK } from "./harness.ts";
import type { Servers } from "./processes.ts";
import { until } from "./until.ts";

export interface OwnStreamOptions {
  dispatchers?: number;
  schedulers?: number;
  env?: Record<string, string>;
  /** The run's shared stack unless given. */
  stack?: Servers;
  /** Set when the test leaves work behind on purpose; otherwise nothing may be left in Redis but dead letters. */
  leavesWork?: boolean;
}

export type OwnStream = Awaited<ReturnType<typeof startOwnStream>>;

/** Everything is ready when this resolves. Retries come after 1, 2 and 3 seconds unless `env` says otherwise. */
export async function startOwnStream(options: OwnStreamOptions = {}) {
  const harness = createHarness({
    servers: options.stack ?? inject("stack"),
    streamKey: `test:${randomUUID()}`,
    env: {
      RETRY_DELAYS_SECONDS: "1,2,3",
      RECONCILE_GRACE_MS: "3600000",
      ...options.env,
    },
    readyPath: "/readyz",
  });
  const { redis, keys, services, streamKey } = harness;

  async function stopServices(): Promise<void> {
    const codes = await harness.stopAll();
    expect(codes, "exit codes").toEqual(codes.map(() => 0));
  }

  async function close(): Promise<void> {
    try {
      if (options.leavesWork !== true)
        await until("Redis holds no work", harness.isIdle).catch(
          () => undefined,
        ); // told by the expectation below
      await stopServices();
      if (options.leavesWork === true) return;
      expect(await harness.work(), "left in Redis").toEqual(NO_WORK);
      expect(await harness.consumers(DISPATCHERS_GROUP)).toEqual([]);
      expect(await harness.consumers(RECORDERS_GROUP)).toEqual([]);
    } finally {
      await harness.stopAll("SIGKILL");
      const names = await redis.keys(`*${streamKey}*`);
      if (names.length > 0) await redis.del(names);
      await harness.release();
    }
  }

  try {
    // The rows in Postgres are everyone's: a reconcile would bring other tests' unfinished deliveries here. With an epoch
    // the retry-scheduler takes Redis for complete, and with its long grace nothing is overdue.
    await redis.set(keys.epoch, "known");
    await harness.startEach({
      dispatcher: options.dispatchers ?? 1,
      "retry-scheduler": options.schedulers ?? 0,
    });
    services.sort((a, b) => a.name.localeCompare(b.name)); // dispatchers first, whichever were quicker
  } catch (error) {
    await close().catch(() => undefined); // the first failure is the one to tell
    throw error;
  }
  return { ...harness, close };
}

/** For one test, at whose end it is stopped and must have left nothing behind. */
export async function ownStreamForTest(
  options?: OwnStreamOptions,
): Promise<OwnStream> {
  const own = await startOwnStream(options);
  onTestFinished(own.close);
  onTestFailed(() => console.log(own.output().slice(-6000)));
  return own;
}
