// Lets deliveries out of their endpoints' waiting lists as the shares free, and moves what stands in the stream for an
// endpoint with a waiting list straight there, so that it is not read only to find that it must wait.
import { parseEntry, toFields } from "@pipeline/shared/entries";
import type { StreamEntry } from "@pipeline/shared/queue/group-reader";
import type { Diversion, Turn, Waiting } from "@pipeline/shared/queue/waiting";
import { sealed } from "../core/settlement.ts";
import type { Destination } from "../core/destinations.ts";
import type { Share } from "../core/share.ts";
import { destinationOf } from "../core/work.ts";

export interface WaitingRoomOptions {
  streamKey: string;
  waiting: Waiting;
  share: Pick<Share, "rooms" | "ahead" | "hold">;
  /** Where an endpoint's id leads, if that is known. */
  originOf: (endpointId: string) => string | null;
  seal: (text: string) => string;
  /** Ends the wait between rounds. */
  wake: () => void;
  /** Ms of a monotonic clock. */
  now: () => number;
  /** Ms since 1970. */
  wallClock: () => number;
}

export interface WaitingRoom {
  /** A delivery has been put into the endpoint's list. */
  noteArrival: (endpoint: string) => void;
  /** The endpoint has room: a round follows soon if deliveries wait for it. */
  noteRoom: (endpoint: string) => void;
  /** One round; resolves to the ms until the next. */
  runOnce: () => Promise<number>;
}

/** Nobody waits: only what other dispatchers put there is to be found. */
const IDLE_MS = 1000;
const BUSY_MS = 100;
/** After being woken: what frees in this time is let out together. */
const SHORTEST_ROUND_MS = 10;
const MOST_TURNS = 100;
const MOST_LET_OUT_BYTES = 1_000_000;
/** Beyond their shares, of all endpoints in one round: others must not wait long behind them in the stream. */
const MOST_AHEAD = 200;
const MOST_LOOKED_AT = 500;
const MOST_LOOKED_AT_BYTES = 1_000_000;
/** An endpoint is looked at in turn, so one that was not among the last turns may still have a list. */
const REMEMBERED_MS = 10_000;

export function createWaitingRoom(options: WaitingRoomOptions): WaitingRoom {
  const { streamKey, waiting, share, originOf, seal, wake } = options;
  const { now, wallClock } = options;
  const seenAt = new Map<string, number>();
  let waking: NodeJS.Timeout | undefined;
  let isWorthLookingAhead = false;

  function wakeSoon(): void {
    waking ??= setTimeout(() => {
      waking = undefined;
      wake();
    }, SHORTEST_ROUND_MS);
  }

  function destination(endpoint: string): Destination {
    const origin = URL.canParse(endpoint)
      ? new URL(endpoint).origin
      : originOf(endpoint);
    return { endpoint, origin };
  }

  async function letOut(turns: Turn[]): Promise<void> {
    for (const { endpoint, heldMs } of turns)
      if (heldMs > 0) share.hold(endpoint, now(), heldMs);
    const due = turns
      .filter(({ heldMs }) => heldMs === 0)
      .map(({ endpoint }) => destination(endpoint));
    const rooms = share.rooms(due, now());
    let aheadLeft = MOST_AHEAD;
    const grants = [];
    for (const [i, each] of due.entries()) {
      const room = rooms[i]!;
      if (room < 1) continue;
      // One that answers takes its share many times before the next round.
      const ahead = Math.min(share.ahead(each), aheadLeft);
      aheadLeft -= ahead;
      grants.push({ endpoint: each.endpoint, count: room + ahead });
    }
    if (grants.length > 0)
      await waiting.letOut(grants, MOST_LET_OUT_BYTES, wallClock());
  }

  function diversion({ entryId, fields: flat }: StreamEntry): Diversion | null {
    const parsed = parseEntry(streamKey, entryId, flat);
    if (!parsed.ok) return null;
    const { delivery } = parsed;
    if (delivery.isReserved) return null; // its moment would pass in the list
    const { endpoint } = destinationOf(delivery, originOf);
    if (!seenAt.has(endpoint)) return null;
    const fields = toFields(sealed(delivery, seal));
    return { entryId, deliveryId: delivery.id, endpoint, fields };
  }

  async function divert(): Promise<void> {
    const { entries, hasMore } = await waiting.unread(
      MOST_LOOKED_AT,
      MOST_LOOKED_AT_BYTES,
    );
    const diversions = entries.map(diversion).filter((each) => each !== null);
    await waiting.divert(diversions);
    isWorthLookingAhead = hasMore && diversions.length > 0;
  }

  return {
    noteArrival: (endpoint) => {
      seenAt.set(endpoint, now());
      isWorthLookingAhead = true;
      wakeSoon();
    },
    noteRoom: (endpoint) => {
      if (seenAt.has(endpoint)) wakeSoon();
    },
    runOnce: async () => {
      const lookedAt = now();
      const turns = await waiting.turns(MOST_TURNS);
      for (const { endpoint } of turns) seenAt.set(endpoint, lookedAt);
      const rememberedMs = turns.length < MOST_TURNS ? 0 : REMEMBERED_MS;
      for (const [endpoint, at] of seenAt)
        if (lookedAt - at > rememberedMs) seenAt.delete(endpoint);
      if (turns.length === 0) return IDLE_MS;
      await letOut(turns);
      if (isWorthLookingAhead) await divert();
      return isWorthLookingAhead ? SHORTEST_ROUND_MS : BUSY_MS;
    },
  };
}
