// Lua scripts as functions. Each script's header says what it does and returns.
import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import type { Keys } from "./keys.ts";

export type Script = (...args: (string | number)[]) => Promise<unknown>;

const read = (file: string) =>
  readFileSync(new URL(file, import.meta.url), "utf8");

/** Scripts on one key of their own. All others begin with the prelude, which names the queue's keys. */
const WITHOUT_PRELUDE = new Set([
  "create-group",
  "lease",
  "mark",
  "remove-consumer",
  "reserve",
]);

/** The whole text that Redis runs: the script's own, after the prelude if it uses that. */
export function scriptText(name: string): string {
  const own = read(`./${name}.lua`);
  return WITHOUT_PRELUDE.has(name) ? own : `${read("./prelude.lua")}\n${own}`;
}

function define(redis: Redis, name: string, numberOfKeys: number): Script {
  redis.defineCommand(name, { numberOfKeys, lua: scriptText(name) });
  const command = (redis as unknown as Record<string, Script>)[name]!;
  return command.bind(redis);
}

/** A script with the prelude: each call passes it the queue's keys, in the prelude's order. */
export function queueScript(redis: Redis, keys: Keys, name: string): Script {
  const { stream, homes, retries, retriesData, log, dead, epoch } = keys;
  const { tombstones, waiting, waitingData, letOut } = keys;
  const all = [stream, homes, retries, retriesData, log, dead, epoch].concat([
    tombstones,
    waiting,
    waitingData,
    letOut,
  ]);
  const script = define(redis, name, all.length);
  return (...args) => script(...all, ...args);
}

/** A script on one key, which the caller gives first. */
export function keyScript(redis: Redis, name: string): Script {
  return define(redis, name, 1);
}
