// A dispatcher's end: nothing in flight is lost, nothing finished is sent twice, and what is left goes to others at once.
import { setTimeout as sleep } from "node:timers/promises";
import { parseEntry } from "@pipeline/shared/entries";
import type { Loop } from "@pipeline/shared/loop";
import { BLOCK_MS, type Redis } from "@pipeline/shared/redis";
import type { Scripts } from "@pipeline/shared/scripts";
import type { Logger } from "@pipeline/shared/logger";
import type { GroupReader } from "./adapters/group-reader.ts";
import type { HttpSender } from "./adapters/http-sender.ts";
import type { Settler } from "./settler.ts";
import type { Slots } from "./slots.ts";

export interface ShutdownOptions {
  consuming: Loop;
  recording: Loop;
  keeping: Loop[];
  slots: Slots;
  settler: Settler;
  sender: HttpSender;
  reader: GroupReader;
  logReader: GroupReader;
  /** Attempts that wait to be written to Postgres. */
  unrecorded: () => Promise<number>;
  scripts: Scripts;
  streamKey: string;
  commands: Redis;
  consumer: string;
  stopping: AbortController;
  graceMs: number;
  logger: Logger;
}

/** Kept back from the grace for settling, recording and releasing. */
const RESERVED_MS = 2000;
const POLL_MS = 50;
const pause = () => sleep(POLL_MS);

export function createShutdown(options: ShutdownOptions): () => Promise<void> {
  const {
    consuming,
    recording,
    keeping,
    slots,
    settler,
    sender,
    reader,
    logReader,
  } = options;
  const {
    unrecorded,
    scripts,
    streamKey,
    commands,
    consumer,
    stopping,
    graceMs,
    logger,
  } = options;

  /** Stops a loop that may be waiting in a blocking read. */
  async function stopReading(loop: Loop, from: GroupReader): Promise<void> {
    const stopped = loop.stop().then(() => true);
    const deadline = performance.now() + BLOCK_MS + RESERVED_MS;
    // Repeated: the loop may have been just about to read when it was woken.
    do {
      await from.wake().catch(() => undefined); // Redis is away: the read ends with its connection
      if ((await Promise.race([stopped, pause()])) === true) return;
    } while (performance.now() < deadline);
  }

  /** Gives back whatever this consumer has read and not settled. */
  async function release(): Promise<number> {
    const entryIds = await reader.pending();
    if (entryIds.length === 0) return 0;
    const entries = await Promise.all(
      entryIds.map(async (entryId) => {
        const [entry] = await commands.xrange(streamKey, entryId, entryId);
        const parsed = parseEntry(streamKey, entryId, entry?.[1] ?? []);
        return {
          entryId,
          deliveryId: parsed.ok ? parsed.delivery.id : parsed.deliveryId,
        };
      }),
    );
    return scripts.release(consumer, entries);
  }

  async function finish(): Promise<void> {
    const deadline = performance.now() + Math.max(0, graceMs - RESERVED_MS);
    logger.info(
      { inFlight: slots.running() },
      "[WEBHOOK_WORKER] Stopping: finishing deliveries in flight",
    );
    stopping.abort();
    slots.dropParked();
    await stopReading(consuming, reader);
    while (slots.running() > 0 && performance.now() < deadline) {
      await pause();
    }
    if (slots.running() > 0)
      logger.warn({ unfinished: slots.running() }, "shutdown.grace_ended");
    // An attempt that is cut off here has no outcome: it is not settled, and its entry goes to another dispatcher.
    settler.abandon();
    await sender.close();
    await settler.drain();
    const released = await release();
    const recordedBy = performance.now() + RESERVED_MS / 2;
    while ((await unrecorded()) > 0 && performance.now() < recordedBy)
      await pause();
    await stopReading(recording, logReader);
    await scripts.removeConsumer("stream", consumer);
    await scripts.removeConsumer("log", consumer);
    await Promise.all(keeping.map((loop) => loop.stop()));
    logger.info({ released }, "shutdown.finished");
  }

  let finishing: Promise<void> | undefined;
  return () => {
    // Redis away at this moment: what is pending is claimed after the idle time.
    finishing ??= finish().catch((error: unknown) =>
      logger.warn({ err: error }, "shutdown.incomplete"),
    );
    return finishing;
  };
}
