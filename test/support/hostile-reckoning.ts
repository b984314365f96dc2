// What a hostile day has done to the healthy receivers.
import { setTimeout as sleep } from "node:timers/promises";
import { type Kill, reckon } from "./chaos.ts";
import type { Pipeline } from "./crash-pipeline.ts";
import type { Spell } from "./hostile-faults.ts";
import type { Flows } from "./hostile-flows.ts";
import { until } from "./until.ts";

/** How long after a request its outcome may still not be in Redis. */
const UNSETTLED_MS = 2000;
/** Clocks are read a little before or after what they tell of. */
const SLACK_MS = 500;
/** How long after a fault ingest may still refuse because of it. */
const AFTERMATH_MS = 3000;

export interface DayReckoning {
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
  /** Attempts at healthy receivers that failed, in words: an overloaded machine can be the cause. */
  harms: string[];
  /** What breaks the promise, in words; empty when all is well. */
  losses: string[];
  /** What was done when. */
  timeline: string[];
}

export interface Day {
  flows: Flows;
  spells: Spell[];
  kills: Kill[];
  /** Ms since 1970. */
  startedAt: number;
  /** What was wrong before the sick recovered. */
  left: string[];
}

interface FailedAttempt {
  id: string;
  from: number;
  to: number;
  text: string;
}

async function failedAttempts(
  pipeline: Pipeline,
  { flows, startedAt }: Day,
): Promise<FailedAttempt[]> {
  const seconds = (at: number) => ((at - startedAt) / 1000).toFixed(1);
  return (await pipeline.allAttempts()).flatMap((attempt) => {
    const { delivery_id: id, error, duration_ms: ms } = attempt;
    if (error === null || !flows.healthy.has(id)) return [];
    const from = Date.parse(attempt.attempted_at);
    const requests = pipeline.receiver.tallies.get(id)?.requestedAt ?? [];
    const text = `${id}: attempt ${attempt.attempt_number}, begun at ${seconds(from)} s, failed after ${ms} ms: ${error}; requests came at ${requests.map(seconds).join(", ")} s`;
    return [{ id, from, to: from + ms, text }];
  });
}

/** Requests for healthy deliveries that came again, and those among them that neither a kill nor a failed attempt explains. */
function repetitions(
  pipeline: Pipeline,
  { flows, kills }: Day,
  failed: FailedAttempt[],
) {
  const deaths = kills.filter(({ name }) => name === "dispatcher");
  const unexplained: string[] = [];
  let repeated = 0;
  for (const id of flows.healthy.keys()) {
    const times = pipeline.receiver.tallies.get(id)?.requestedAt ?? [];
    for (const [i, at] of times.slice(0, -1).entries()) {
      repeated++;
      const wasInFlight = deaths.some(
        (kill) => kill.at > at - SLACK_MS && kill.at < at + UNSETTLED_MS,
      );
      const hasFailed = failed.some(
        (one) =>
          one.id === id && at > one.from - SLACK_MS && at < one.to + SLACK_MS,
      );
      if (!wasInFlight && !hasFailed)
        unexplained.push(
          `${id}: sent again ${times[i + 1]! - at} ms after it had arrived, and no dispatcher had died`,
        );
    }
  }
  return { repeated, unexplained };
}

/** What happened when, in seconds, for whoever has to find a cause. */
function timeline(startedAt: number, spells: Spell[], kills: Kill[]): string[] {
  const seconds = (at: number) => ((at - startedAt) / 1000).toFixed(1);
  return [
    ...spells.map(({ name, from, to }) => ({
      at: from,
      text: `${name} until ${seconds(to)} s`,
    })),
    ...kills.map(({ name, at }) => ({ at, text: `kill ${name}` })),
  ]
    .toSorted((a, b) => a.at - b.at)
    .map(({ at, text }) => `${seconds(at)} s ${text}`);
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
export async function healthyEnd(
  pipeline: Pipeline,
  flows: Flows,
): Promise<string[]> {
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

export async function reckonDay(
  pipeline: Pipeline,
  day: Day,
): Promise<DayReckoning> {
  const { flows, spells, kills, startedAt } = day;
  const promised = new Map(
    [...flows.healthy].map(([id, { url }]) => [id, url]),
  );
  const reckoning = await reckon(pipeline, promised, kills);
  const rows = new Set((await pipeline.allRows()).map(({ id }) => id));
  const failed = await failedAttempts(pipeline, day);
  const { repeated, unexplained } = repetitions(pipeline, day, failed);
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
    kills: reckoning.kills,
    spells: spellCounts,
    repeated,
    refused: flows.refusals.length,
    refusedWithoutCause: withoutCause(flows, spells),
    harms: failed.map(({ text }) => text),
    losses: [
      ...flows.faults,
      ...day.left,
      // Further attempts are told as harms.
      ...reckoning.losses.filter((loss) => !loss.includes(": took ")),
      ...[...flows.sick.keys()]
        .filter((id) => !rows.has(id))
        .map((id) => `${id}: was accepted and has no row`),
      ...unexplained,
    ],
    timeline: timeline(startedAt, spells, kills),
  };
}
