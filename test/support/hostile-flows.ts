// What arrives on a hostile day: a steady flow for healthy receivers, by every way in, and one for each kind of sick ones.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Pipeline } from "./crash-pipeline.ts";

/** Deliveries a second. */
const RATES = { api: 15, xadd: 15, hanging: 5, silent: 2, busy: 15, locked: 2 };
const HANGING_PATHS = 40;
const TRY_AGAIN_MS = 500;
const LONGEST_PAUSE_MS = 4000;

/** As clients should: longer each time, and not all at once. A herd of them would starve the receiver in this process. */
function createPause(random: () => number) {
  let ms = TRY_AGAIN_MS;
  return async () => {
    await sleep(ms * (0.5 + random()));
    ms = Math.min(2 * ms, LONGEST_PAUSE_MS);
  };
}

/** A delivery that was promised: where it goes, and when the request that was answered so was made. */
export interface Promised {
  url: string;
  askedAt: number;
}

export interface Refusal {
  /** When the answer came. */
  at: number;
  /** The status that ingest answered; null when it did not answer or Redis refused. */
  status: number | null;
}

export interface Places {
  healthy: string[];
  hanging: string;
  busy: string;
  silent: string[];
  /** Leads: those of the healthy flow, and one whose row is locked now and then. */
  leads: string[];
  lockedLead: string;
  /** Endpoints in Postgres that have the URLs of the healthy ones. */
  endpoints: string[];
}

export function createFlows(
  pipeline: Pipeline,
  places: Places,
  random: () => number,
) {
  const healthy = new Map<string, Promised>();
  const sick = new Map<string, Promised>();
  /** Of healthy deliveries. All were tried again until they were accepted. */
  const refusals: Refusal[] = [];
  const faults: string[] = [];
  const stopping = new AbortController();
  const tasks: Promise<unknown>[] = [];
  const pick = <Item>(items: Item[]) =>
    items[Math.floor(random() * items.length)]!;

  /** As a careful client does: the same key again until there is an answer that promises something. */
  async function post(into: Map<string, Promised>, url: string, of: object) {
    const wanted = { ...of, webhookUrl: url, idempotencyKey: randomUUID() };
    // A try that was not answered may be the one that stored it.
    let unansweredAt: number | null = null;
    const pause = createPause(random);
    for (;;) {
      const at = Date.now();
      let status: number | null = null;
      try {
        const ingest = pick(pipeline.running("ingest"));
        const reply = await pipeline.post("", wanted, ingest);
        status = reply.status;
        // 200: stored by an earlier try.
        if (status === 202 || status === 200) {
          const askedAt = unansweredAt ?? at;
          into.set(reply.body.delivery.id, { url, askedAt });
          return;
        }
        if (status < 500 && status !== 429) {
          faults.push(`ingest answered ${status}: ${reply.body.error}`);
          return;
        }
      } catch {
        // killed in the middle, or not up yet: whether it was stored is what the second try finds out
        unansweredAt ??= at;
      }
      if (into === healthy) refusals.push({ at: Date.now(), status });
      await pause();
    }
  }

  async function xadd(into: Map<string, Promised>, url: string, of: object) {
    const id = randomUUID();
    const pause = createPause(random);
    for (;;) {
      const askedAt = Date.now();
      try {
        await pipeline.add({ id, payload: JSON.stringify({ n: id }), ...of });
        into.set(id, { url, askedAt });
        return;
      } catch {
        if (into === healthy) refusals.push({ at: Date.now(), status: null }); // Redis is full
      }
      await pause();
    }
  }

  const own = () => ({ payload: { n: randomUUID() } });
  const makers: Record<keyof typeof RATES, () => Promise<void>> = {
    api: () =>
      post(
        healthy,
        pick(places.healthy),
        random() < 0.5 ? own() : { leadId: pick(places.leads) },
      ),
    xadd: () => {
      const index = Math.floor(random() * places.healthy.length);
      const url = places.healthy[index]!;
      const byEndpoint = { endpoint_id: places.endpoints[index]! };
      return xadd(
        healthy,
        url,
        random() < 0.5 ? byEndpoint : { webhook_url: url },
      );
    },
    hanging: () => {
      const path = Math.floor(random() * HANGING_PATHS);
      const url = `${places.hanging}/hang/${path}`;
      return random() < 0.5
        ? post(sick, url, own())
        : xadd(sick, url, { webhook_url: url });
    },
    silent: () => {
      const url = pick(places.silent);
      return xadd(sick, url, { webhook_url: url });
    },
    busy: () => {
      const url = `${places.busy}/busy/x`;
      return xadd(sick, url, { webhook_url: url });
    },
    locked: () =>
      post(sick, pick(places.healthy), { leadId: places.lockedLead }),
  };

  async function steadily(perSecond: number, make: () => Promise<void>) {
    const made: Promise<void>[] = [];
    while (!stopping.signal.aborted) {
      made.push(make());
      await sleep(1000 / perSecond);
    }
    await Promise.all(made);
  }

  return {
    healthy,
    sick,
    refusals,
    faults,
    start: () => {
      for (const kind of Object.keys(RATES) as (keyof typeof RATES)[])
        tasks.push(steadily(RATES[kind], makers[kind]));
    },
    /** Resolves when all that was wanted is accepted. */
    stop: async () => {
      stopping.abort();
      await Promise.all(tasks);
    },
  };
}

export type Flows = ReturnType<typeof createFlows>;
