// ./run soak [minutes] [kills | hostile-day]: delivers for a long time while things go wrong.
//   kills        services, and now and then Redis and PostgREST, are killed under load
//   hostile-day  sick receivers and names, locks, a full Redis, a hanging Supabase and kills, all at once
// Exits with 1 when a promise was broken. SEED=… makes the random choices of an earlier run again.
import { setTimeout as sleep } from "node:timers/promises";
import { sweep } from "@pipeline/dev-stack/sweep";
import { createKiller, createLoad, reckon, settled } from "./support/chaos.ts";
import { startPipeline } from "./support/crash-pipeline.ts";
import { hostileDay } from "./support/hostile-day.ts";
import { createRandom, readSeed } from "./support/seed.ts";

const PER_SECOND = 100;
const KILL_EVERY_MS = 4000;
const SERVER_KILL_EVERY_MS = 25_000;
const PROGRESS_EVERY_MS = 10_000;

const scenarios = { kills: soakKills, "hostile-day": soakHostileDay };

/** Both resolve to what breaks the promise, in words. */
async function soakHostileDay(
  minutes: number,
  seed: number,
): Promise<string[]> {
  console.log(`A hostile day of ${minutes} minutes, SEED=${seed}...`);
  const day = await hostileDay({
    seed,
    durationMs: minutes * 60_000,
    onProgress: (line) => console.log(line),
  });
  const counts = (of: Record<string, number>) =>
    Object.entries(of)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ");
  console.log(`
Kills       ${counts(day.kills)}
Faults      ${counts(day.spells)}
Deliveries  ${day.healthy} for the healthy, ${day.sick} for the sick
Arrival     of the healthy ones: p50 ${day.p50} ms, p99 ${day.p99} ms; the longest stall of this process was ${day.stalledMs} ms
Refused     ${day.refused} tries, ${day.refusedWithoutCause} of them with no fault to explain it
Duplicates  ${day.repeated} requests to healthy receivers`);
  console.log(
    `Harms       ${day.harms.length} attempts at healthy receivers failed`,
  );
  for (const harm of day.harms.slice(0, 50)) console.log(`  ${harm}`);
  if (day.losses.length + day.harms.length > 0)
    console.log(day.timeline.join("\n"));
  return day.losses;
}

async function soakKills(minutes: number, seed: number): Promise<string[]> {
  const random = createRandom(seed);
  console.log(
    `Starting two processes of each service, for ${minutes} minutes, SEED=${seed}...`,
  );
  const pipeline = await startPipeline({
    ingest: 2,
    dispatcher: 2,
    "retry-scheduler": 2,
    env: { LOG_LEVEL: "warn" },
  });
  await pipeline.startServices();
  const endsAt = Date.now() + minutes * 60_000;
  const load = createLoad(pipeline, random);
  const killer = createKiller(pipeline, createRandom(seed, "killer"));
  const serverKills = { redis: 0, postgrest: 0 };

  async function killServers(): Promise<void> {
    for (;;) {
      const pauseMs = SERVER_KILL_EVERY_MS * (0.5 + random());
      if (Date.now() + pauseMs > endsAt) return;
      await sleep(pauseMs);
      const name = random() < 0.5 ? "redis" : "postgrest";
      serverKills[name]++;
      await pipeline.stack[name].stop("SIGKILL");
      await pipeline.stack[name].start();
    }
  }

  async function reportProgress(): Promise<void> {
    const { stream, retries, log } = await pipeline.work();
    const left = Math.max(0, Math.ceil((endsAt - Date.now()) / 1000));
    console.log(
      `${left} s left: ${load.accepted.size} accepted, ${pipeline.receiver.tallies.size} sent, ${killer.kills.length} kills; in Redis ${stream} queued, ${retries} retries, ${log} to record`,
    );
  }

  const progress = setInterval(() => {
    reportProgress().catch(() => undefined); // Redis is being restarted
  }, PROGRESS_EVERY_MS);
  const tasks = [
    load.run(Infinity, PER_SECOND),
    killer.run(KILL_EVERY_MS),
    killServers(),
  ];
  await sleep(minutes * 60_000);
  load.stop();
  await killer.stop();
  await Promise.all(tasks);
  clearInterval(progress);
  console.log("No more deliveries and no more kills; waiting for the end...");
  await settled(pipeline, 120_000);
  const { losses, repeated, deliveries, requests, kills } = await reckon(
    pipeline,
    load.accepted,
    killer.kills,
  );
  await pipeline.stop();

  const killed = Object.entries({ ...kills, ...serverKills });
  console.log(`
Kills       ${killed.map(([name, count]) => `${name} ${count}`).join(", ")}
Deliveries  ${deliveries}, ${load.accepted.size} of them acknowledged; ${requests} requests
Duplicates  ${repeated} requests repeated under the same webhook-id`);
  return losses;
}

const minutes = Number(process.argv[2] ?? 5);
const scenario = process.argv[3] ?? "kills";
if (
  !(minutes > 0 && minutes <= 24 * 60) ||
  !(scenario === "kills" || scenario === "hostile-day")
) {
  console.error(
    "usage: ./run soak [minutes] [kills | hostile-day], from 0.1 to 1440 minutes (default 5, kills)",
  );
  process.exit(2);
}
await sweep({ live: false });
const losses = await scenarios[scenario](minutes, readSeed());
console.log(`Losses      ${losses.length}`);
for (const loss of losses.slice(0, 50)) console.log(`  ${loss}`);
process.exit(losses.length > 0 ? 1 : 0);
