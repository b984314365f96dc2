// ./run soak [minutes]: delivers for a long time while services, and now and then Redis and PostgREST, are killed.
// Exits with 1 when a delivery was lost. SEED=… makes the random choices of an earlier run again.
import { setTimeout as sleep } from "node:timers/promises";
import { sweep } from "@pipeline/dev-stack/sweep";
import { createKiller, createLoad, reckon, settled } from "./support/chaos.ts";
import { startPipeline } from "./support/crash-pipeline.ts";
import { createRandom, readSeed } from "./support/seed.ts";

const PER_SECOND = 100;
const KILL_EVERY_MS = 4000;
const SERVER_KILL_EVERY_MS = 25_000;
const PROGRESS_EVERY_MS = 10_000;

const minutes = Number(process.argv[2] ?? 5);
if (!(minutes > 0 && minutes <= 24 * 60)) {
  console.error("usage: ./run soak [minutes], from 0.1 to 1440 (default 5)");
  process.exit(2);
}

const seed = readSeed();
const random = createRandom(seed);
await sweep({ live: false });
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
Duplicates  ${repeated} requests repeated under the same webhook-id
Losses      ${losses.length}`);
for (const loss of losses.slice(0, 50)) console.log(`  ${loss}`);
process.exit(losses.length > 0 ? 1 : 0);
