// Many troubles at once: names whose name server is silent, a host that hangs on every path, a receiver that answers 429, a
// locked row, a full Redis, a Supabase that takes calls and does not answer, and kill -9 of any service. Meanwhile healthy
// receivers get a steady flow. Shared by the test and by `./run soak`.
import { setTimeout as sleep } from "node:timers/promises";
import { unwrap } from "@pipeline/shared/database";
import { createKiller, type Kill, reckon, settled } from "./chaos.ts";
import { type Pipeline, startPipeline } from "./crash-pipeline.ts";
import { type DnsAnswer, dnsServer } from "./dns-server.ts";
import { haunt, hostileFaults, type Spell } from "./hostile-faults.ts";
import { createFlows, type Flows, type Places } from "./hostile-flows.ts";
import { createRandom } from "./seed.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";
import { until } from "./until.ts";

const KILL_EVERY_MS = 5000;
const HERE: DnsAnswer = { addresses: ["127.0.0.1"], ttl: 5 };
const HEALTHY = Array.from({ length: 10 }, (_, i) => `healthy-${i}.test`);
const SILENT = Array.from({ length: 5 }, (_, i) => `silent-${i}.test`);
/** How long after a request its outcome may still not be in Redis. */
const UNSETTLED_MS = 2000;
/** How long after a fault ingest may still refuse because of it. */
const AFTERMATH_MS = 3000;

export interface HostileDay {
  /** In ms, from the request that was accepted to the receiver. */
  p50: number;
  p99: number;
  healthy: number;
  sick: number;
  kills: Record<string, number>;
  spells: Record<string, number>;
  /** Requests for healthy deliveries that came twice, each explained by a kill. */
  repeated: number;
  /** Times that a healthy delivery was refused, and of those: with 503 while neither Redis was full nor Supabase hung. */
  refused: number;
  refusedWithoutCause: number;
  /** What breaks the promise, in words; empty when all is well. */
  losses: string[];
}

export interface HostileDayOptions {
  seed: number;
  durationMs: number;
  onProgress?: (line: string) => void;
}

async function preparePlaces(pipeline: Pipeline): Promise<Places> {
  const { client, receiver } = pipeline;
  const { port } = new URL(receiver.url);
  const at = (name: string) => `http://${name}:${port}`;
  const healthy = HEALTHY.map((name) => `${at(name)}/ok`);
  const emails = Array.from({ length: 6 }, (_, i) => `lead-${i}@example.com`);
  const leads = await unwrap<{ id: string }[]>(
    client
      .from("leads")
      .insert(emails.map((email) => ({ email })))
      .select("id"),
  );
  const endpoints = await unwrap<{ id: string; url: string }[]>(
    client
      .from("webhook_endpoints")
      .insert(healthy.map((url) => ({ name: "healthy", url })))
      .select("id,url"),
  );
  const [lockedLead, ...free] = leads.map(({ id }) => id);
  return {
    healthy,
    hanging: at("hanging.test"),
    busy: at("busy.test"),
    silent: SILENT.map((name) => `${at(name)}/ok`),
    leads: free,
    lockedLead: lockedLead!,
    endpoints: healthy.map(
      (url) => endpoints.find((one) => one.url === url)!.id,
    ),
  };
}

/** Healthy deliveries that came again although no dispatcher died with them in flight, and the number of the others. */
function repetitions(pipeline: Pipeline, flows: Flows, kills: Kill[]) {
  const killedAt = kills.flatMap(({ name, at }) =>
    name === "dispatcher" ? [at] : [],
  );
  const unexplained: string[] = [];
  let repeated = 0;
  for (const id of flows.healthy.keys()) {
    const times = pipeline.receiver.tallies.get(id)?.requestedAt ?? [];
    for (const [i, at] of times.slice(0, -1).entries()) {
      repeated++;
      const isExplained = killedAt.some(
        (kill) => kill > at - 500 && kill < at + UNSETTLED_MS,
      );
      if (!isExplained)
        unexplained.push(
          `${id}: sent again ${times[i + 1]! - at} ms after it had arrived, and no dispatcher had died`,
        );
    }
  }
  return { repeated, unexplained };
}

function withoutCause(flows: Flows, spells: Spell[]): number {
  const causes = spells.filter(({ name }) => name !== "locked row");
  const isCaused = (at: number) =>
    causes.some(({ from, to }) => at > from && at < to + AFTERMATH_MS);
  // An ingest that was killed does not answer at all.
  return flows.refusals.filter(
    ({ at, status }) => status === 503 && !isCaused(at),
  ).length;
}

/** The healthy have all arrived and are recorded while the sick are still sick; Redis holds nothing else. */
async function healthyEnd(pipeline: Pipeline, flows: Flows): Promise<string[]> {
  const { tallies } = pipeline.receiver;
  const unrecorded = async () => {
    const unfinished = (await pipeline.allRows()).filter(
      ({ id, status }) => flows.healthy.has(id) && status !== "success",
    );
    return unfinished.map(({ id, status }) => `${id}: still ${status}`);
  };
  const unarrived = () =>
    [...flows.healthy.keys()].filter((id) => !tallies.has(id));
  let left: string[] = [];
  try {
    await until(
      "the healthy ones have ended",
      async () => {
        left = [
          ...unarrived().map((id) => `${id}: has not arrived`),
          ...(await unrecorded()),
        ];
        if (left.length > 0) await sleep(500);
        return left.length === 0;
      },
      60_000,
    );
  } catch {
    return left;
  }
  const homes = await pipeline.redis.hgetall(pipeline.keys.homes);
  return Object.entries(homes)
    .filter(
      ([id, home]) => flows.healthy.has(id) && !/^clos(ing|ed):/.test(home),
    )
    .map(([id, home]) => `${id}: has ended, and Redis keeps its home ${home}`);
}

function arrivalTimes(pipeline: Pipeline, flows: Flows): number[] {
  return [...flows.healthy]
    .map(([id, { askedAt }]) => {
      const first = pipeline.receiver.tallies.get(id)?.requestedAt[0];
      // What a request stored whose ingest died has arrived before it was asked for again.
      return first === undefined ? Infinity : Math.max(0, first - askedAt);
    })
    .toSorted((a, b) => a - b);
}

async function live(
  pipeline: Pipeline,
  supabase: TcpProxy,
  options: HostileDayOptions,
) {
  const places = await preparePlaces(pipeline);
  await pipeline.startServices();
  const flows = createFlows(pipeline, places, createRandom(options.seed));
  const killer = createKiller(pipeline, createRandom(options.seed, "killer"));
  const over = new AbortController();
  const progress = setInterval(() => {
    options.onProgress?.(
      `${flows.healthy.size} for the healthy and ${flows.sick.size} for the sick accepted, ${killer.kills.length} kills`,
    );
  }, 10_000);
  flows.start();
  const killing = killer.run(KILL_EVERY_MS);
  const haunting = hostileFaults(pipeline, supabase, places.lockedLead).map(
    (fault) => haunt(fault, over.signal),
  );
  await sleep(options.durationMs);
  over.abort();
  const spells = (await Promise.all(haunting)).flat();
  await killer.stop();
  await killing;
  await flows.stop();
  clearInterval(progress);
  return { flows, spells, kills: killer.kills };
}

export async function hostileDay(
  options: HostileDayOptions,
): Promise<HostileDay> {
  const closing: (() => Promise<void>)[] = [];
  const names = await dnsServer(
    {
      ...Object.fromEntries(
        [...HEALTHY, "hanging.test", "busy.test"].map((name) => [name, HERE]),
      ),
      ...Object.fromEntries(SILENT.map((name) => [name, "silent"])),
    },
    (close) => closing.push(close),
  );
  let supabase!: TcpProxy;
  const pipeline = await startPipeline({
    ingest: 2,
    dispatcher: 2,
    "retry-scheduler": 2,
    env: {
      LOG_LEVEL: "warn",
      DNS_SERVERS: names.address,
      // A dispatcher that gets no processor for some seconds is not dead.
      CLAIM_IDLE_MS: "4000",
    },
    through: async ({ supabaseUrl }) => {
      supabase = await startTcpProxy(supabaseUrl);
      return { SUPABASE_URL: `http://127.0.0.1:${supabase.port}` };
    },
  });
  closing.push(supabase.close, pipeline.stop);
  try {
    const { flows, spells, kills } = await live(pipeline, supabase, options);
    const left = await healthyEnd(pipeline, flows);
    options.onProgress?.("The healthy ones have ended; the sick recover...");
    pipeline.receiver.recover();
    for (const name of SILENT) names.answers[name] = HERE;
    await settled(pipeline, 120_000);

    const promised = new Map(
      [...flows.healthy].map(([id, { url }]) => [id, url]),
    );
    const { losses, kills: killCounts } = await reckon(
      pipeline,
      promised,
      kills,
    );
    const rows = new Map(
      (await pipeline.allRows()).map((row) => [row.id, row]),
    );
    for (const id of flows.sick.keys())
      if (!rows.has(id)) losses.push(`${id}: was accepted and has no row`);
    const { repeated, unexplained } = repetitions(pipeline, flows, kills);
    const times = arrivalTimes(pipeline, flows);
    const at = (part: number) => times[Math.floor(times.length * part)]!;
    const spellCounts: Record<string, number> = {};
    for (const { name } of spells)
      spellCounts[name] = (spellCounts[name] ?? 0) + 1;
    return {
      p50: at(0.5),
      p99: at(0.99),
      healthy: flows.healthy.size,
      sick: flows.sick.size,
      kills: killCounts,
      spells: spellCounts,
      repeated,
      refused: flows.refusals.length,
      refusedWithoutCause: withoutCause(flows, spells),
      losses: [...flows.faults, ...left, ...losses, ...unexplained],
    };
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}
