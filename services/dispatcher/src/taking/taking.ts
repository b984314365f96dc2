// The room between the stream and an attempt, put together: what is read, when, and who goes.
import { abortableSleep } from "@pipeline/shared/loop";
import type { Logger } from "@pipeline/shared/logger";
import type { Consumer } from "@pipeline/shared/queue/consumer";
import { createDeadLetters } from "@pipeline/shared/queue/dead-letters";
import type { Inspection } from "@pipeline/shared/queue/inspection";
import type { Keys } from "@pipeline/shared/queue/keys";
import { createLimits } from "@pipeline/shared/queue/limits";
import { createMarks } from "@pipeline/shared/queue/marks";
import type { Waiting } from "@pipeline/shared/queue/waiting";
import type { Redis } from "@pipeline/shared/redis";
import type { Deliver } from "../attempt/deliver.ts";
import type { Settler } from "../attempt/settler.ts";
import type { Config } from "../config.ts";
import type { Share } from "../core/share.ts";
import type { Traffic } from "../core/traffic.ts";
import type { Work } from "../core/work.ts";
import { type Admit, createAdmit } from "./admit.ts";
import { createBegin } from "./begin.ts";
import { createClaims } from "./claims.ts";
import { createConsume } from "./consume.ts";
import { createLimiter, unlimited } from "./limiter.ts";
import { createMemoryGuard } from "./memory-guard.ts";
import { createPermits, type Permits } from "./permits.ts";
import { createRunAlone } from "./run-alone.ts";
import { createWaitingRoom, type WaitingRoom } from "./waiting-room.ts";

export interface TakingOptions {
  config: Config;
  commands: Redis;
  keys: Keys;
  consumer: string;
  queue: Consumer;
  inspection: Inspection;
  waiting: Waiting;
  share: Share;
  traffic: Traffic<Work>;
  attempt: Deliver;
  settler: Settler;
  /** Where an endpoint's id leads, if that is known. */
  originOf: (endpointId: string) => string | null;
  seal: (text: string) => string;
  wakeWaitingRoom: () => void;
  logger: Logger;
  signal: AbortSignal;
  /** Ms since 1970. */
  now: () => number;
  /** Ms of a clock that nobody sets. */
  monotonic: () => number;
  random: () => number;
}

export interface Taking {
  permits: Permits;
  /** One round of reading; resolves to the ms until the next. */
  takeOnce: (signal: AbortSignal) => Promise<number>;
  waitingRoom: WaitingRoom;
}

export function createTaking(options: TakingOptions): Taking {
  const { config, commands, keys, queue, inspection, waiting } = options;
  const { share, traffic, attempt, originOf, logger, signal } = options;
  const { monotonic, random } = options;
  const { claimIdleMs, concurrency, ratePerSecond, streamKey } = config;
  const limits = createLimits(commands, keys);

  const guard = createMemoryGuard({
    inspection,
    deadLetters: createDeadLetters(commands, keys),
    deadMaxBytes: config.deadMaxBytes,
    typicalBytes: queue.typicalBytes,
    logger,
    now: monotonic,
  });
  const waitingRoom = createWaitingRoom({
    streamKey,
    waiting: {
      ...waiting,
      // A delivery takes more memory in a list than in the stream.
      unread: async (...bounds) =>
        guard.isTight()
          ? { entries: [], hasMore: false }
          : waiting.unread(...bounds),
    },
    share,
    originOf,
    seal: options.seal,
    wake: options.wakeWaitingRoom,
    now: monotonic,
    wallClock: options.now,
  });
  const limiter =
    ratePerSecond === 0
      ? unlimited
      : createLimiter({ limits, ratePerSecond, logger, now: monotonic });
  const permits = createPermits({
    traffic,
    limiter,
    deliver: createBegin({
      limits,
      endpointRatePerSecond: config.endpointRatePerSecond || null,
      deliver: attempt.deliver,
      defer: attempt.defer,
      logger,
      signal,
    }),
    wait: async (work) => {
      await attempt.wait(work);
      waitingRoom.noteArrival(work.endpoint);
    },
    onRoom: waitingRoom.noteRoom,
    logger,
    signal,
    now: monotonic,
  });
  const offer = createAdmit({
    streamKey,
    queue,
    permits,
    limiter,
    originOf,
    giveUp: attempt.giveUp,
    logger,
  });
  const admit: Admit = (...args) => {
    guard.noteRead();
    return offer(...args);
  };
  const consume = createConsume({
    concurrency,
    queue,
    claims: createClaims({
      claimIdleMs,
      queue,
      permits,
      now: monotonic,
      random,
    }),
    runAlone: createRunAlone({
      concurrency,
      claimIdleMs,
      attemptTimeoutMs: config.attemptTimeoutMs,
      queue,
      marks: createMarks(commands, keys, options.consumer),
      permits,
      admit,
      settler: options.settler,
      logger,
      now: monotonic,
      random,
      sleep: abortableSleep,
    }),
    limiter,
    permits: {
      ...permits,
      free: () =>
        Math.min(permits.free(), guard.mostInFlight() - permits.running()),
    },
    admit,
    now: monotonic,
  });

  return {
    permits,
    waitingRoom,
    takeOnce: async (stopping) =>
      (await guard.check(permits.running())) || consume(stopping),
  };
}
