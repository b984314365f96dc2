// Many troubles at once: names whose name server is silent, a host that hangs on every path, a receiver that answers 429, a
// locked row, a full Redis, a Supabase that takes calls and does not answer, and kill -9 of any service. Meanwhile healthy
// receivers get a steady flow. Shared by the test and by `./run soak`.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { unwrap } from "@pipeline/shared/database";
import { createKiller, settled } from "./chaos.ts";
import { type Pipeline, startPipeline } from "./crash-pipeline.ts";
import { type DnsAnswer, dnsServer } from "./dns-server.ts";
import { haunt, hostileFaults } from "./hostile-faults.ts";
import { createFlows, type Places } from "./hostile-flows.ts";
import {
  healthyEnd,
  reckonDay,
  type DayReckoning,
} from "./hostile-reckoning.ts";
import { createRandom } from "./seed.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";

const KILL_EVERY_MS = 5000;
const HERE: DnsAnswer = { addresses: ["127.0.0.1"], ttl: 5 };
const HEALTHY = Array.from({ length: 10 }, (_, i) => `healthy-${i}.test`);
const SILENT = Array.from({ length: 5 }, (_, i) => `silent-${i}.test`);
export interface HostileDay extends DayReckoning {
  /** How long, at most, the process of the receiver and the proxy itself did not run, in ms: the machine is overloaded. */
  stalledMs: number;
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
    const startedAt = Date.now();
    const stalls = monitorEventLoopDelay({ resolution: 20 });
    stalls.enable();
    const { flows, spells, kills } = await live(pipeline, supabase, options);
    stalls.disable();
    const left = await healthyEnd(pipeline, flows);
    options.onProgress?.("The healthy ones have ended; the sick recover...");
    pipeline.receiver.recover();
    for (const name of SILENT) names.answers[name] = HERE;
    await settled(pipeline, 120_000);
    const day = await reckonDay(pipeline, {
      flows,
      spells,
      kills,
      startedAt,
      left,
    });
    return { ...day, stalledMs: Math.round(stalls.max / 1e6) };
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}
