// A dispatcher's end: nothing in flight is lost, nothing finished is sent twice, and what is left goes to others at once.
import { setTimeout as sleep } from "node:timers/promises";
import type { Loop } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { Consumer } from "@pipeline/shared/queue/consumer";
import type { Records } from "@pipeline/shared/queue/records";
import { BLOCK_MS } from "@pipeline/shared/redis";
import type { HttpSender } from "./attempt/http-sender.ts";
import type { Settler } from "./attempt/settler.ts";
import type { Permits } from "./taking/permits.ts";

export interface ShutdownOptions {
  consuming: Loop;
  recording: Loop;
  keeping: Loop[];
  permits: Permits;
  settler: Settler;
  sender: HttpSender;
  queue: Pick<Consumer, "wake" | "pending" | "release" | "leave">;
  records: Pick<Records, "wake" | "leave">;
  /** Attempts that wait to be written to Postgres. */
  unrecorded: () => Promise<number>;
  stopping: AbortController;
  graceMs: number;
  logger: Logger;
}

/** Kept back from the grace for settling, recording and releasing. */
const RESERVED_MS = 2000;
const POLL_MS = 50;
const pause = () => sleep(POLL_MS);

export function createShutdown(options: ShutdownOptions): () => Promise<void> {
  const { consuming, recording, keeping, permits, settler, sender } = options;
  const { queue, records, unrecorded, stopping, graceMs, logger } = options;

  /** Stops a loop that may be waiting in a blocking read. */
  async function stopReading(
    loop: Loop,
    from: { wake: () => Promise<void> },
  ): Promise<void> {
    const stopped = loop.stop().then(() => true);
    const deadline = performance.now() + BLOCK_MS + RESERVED_MS;
    // Repeated: the loop may have been just about to read when it was woken.
    do {
      await from.wake().catch(() => undefined); // Redis is away: the read ends with its connection
      if ((await Promise.race([stopped, pause()])) === true) return;
    } while (performance.now() < deadline);
  }

  async function finish(): Promise<void> {
    const deadline = performance.now() + Math.max(0, graceMs - RESERVED_MS);
    logger.info(
      { inFlight: permits.running() },
      "[WEBHOOK_WORKER] Stopping: finishing deliveries in flight",
    );
    stopping.abort();
    permits.dropParked();
    await stopReading(consuming, queue);
    while (permits.running() > 0 && performance.now() < deadline) {
      await pause();
    }
    if (permits.running() > 0)
      logger.warn({ unfinished: permits.running() }, "shutdown.grace_ended");
    // An attempt that is cut off here has no outcome: it is not settled, and its entry goes to another dispatcher.
    settler.abandon();
    await sender.close();
    await settler.drain();
    const released = await queue.release(await queue.pending());
    const recordedBy = performance.now() + RESERVED_MS / 2;
    while ((await unrecorded()) > 0 && performance.now() < recordedBy)
      await pause();
    await stopReading(recording, records);
    await queue.leave();
    await records.leave();
    await Promise.all(keeping.map((loop) => loop.stop()));
    logger.info({ released }, "shutdown.finished");
  }

  let finishing: Promise<void> | undefined;
  return () => {
    // If Redis is away now, entries that are pending will be claimed after the idle time.
    finishing ??= finish().catch((error: unknown) =>
      logger.warn({ err: error }, "shutdown.incomplete"),
    );
    return finishing;
  };
}
