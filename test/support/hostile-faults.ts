// What goes wrong on a hostile day, again and again, each fault at its own pace so that they overlap differently each time.
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import type { Pipeline } from "./crash-pipeline.ts";
import type { TcpProxy } from "./tcp-proxy.ts";

export interface Fault {
  name: "locked row" | "Redis full" | "Supabase hangs";
  firstAfterMs: number;
  lastsMs: number;
  everyMs: number;
  /** Resolves to what ends it. */
  begin: () => Promise<() => Promise<unknown>>;
}

/** When a fault was there, ms since 1970. */
export interface Spell {
  name: Fault["name"];
  from: number;
  to: number;
}

export function hostileFaults(
  { redis, stack }: Pipeline,
  supabase: TcpProxy,
  leadId: string,
): Fault[] {
  return [
    {
      name: "locked row",
      firstAfterMs: 4000,
      lastsMs: 15_000,
      everyMs: 28_000,
      begin: async () => {
        const holder = new Client({ connectionString: stack.postgresUrl });
        await holder.connect();
        await holder.query("begin");
        await holder.query("select from leads where id = $1 for update", [
          leadId,
        ]);
        return () => holder.end();
      },
    },
    {
      name: "Redis full",
      firstAfterMs: 10_000,
      lastsMs: 5000,
      everyMs: 21_000,
      begin: async () => {
        const info = await redis.info("memory");
        const used = Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
        await redis.config("SET", "maxmemory", Math.floor(used * 0.98));
        return () => redis.config("SET", "maxmemory", 0);
      },
    },
    {
      name: "Supabase hangs",
      firstAfterMs: 13_000,
      lastsMs: 6000,
      everyMs: 26_000,
      begin: () => {
        supabase.set("holes");
        return Promise.resolve(() => {
          supabase.set("pass");
          supabase.cut(); // connections that were holes do not come back
          return Promise.resolve();
        });
      },
    },
  ];
}

/** Lets the fault come and go until told to stop, and then ends it. */
export async function haunt(
  fault: Fault,
  signal: AbortSignal,
): Promise<Spell[]> {
  const spells: Spell[] = [];
  const pause = (ms: number) =>
    sleep(ms, undefined, { signal }).catch(() => undefined);
  await pause(fault.firstAfterMs);
  while (!signal.aborted) {
    const spell: Spell = { name: fault.name, from: Date.now(), to: 0 };
    const end = await fault.begin();
    await pause(fault.lastsMs);
    await end();
    spell.to = Date.now();
    spells.push(spell);
    await pause(fault.everyMs - fault.lastsMs);
  }
  return spells;
}
