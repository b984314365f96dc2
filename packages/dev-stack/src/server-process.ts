import type { ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import {
  hasExited,
  spawnTracked,
  stopChild,
  type TrackedOptions,
} from "./children.ts";

export interface ServerProcess {
  readonly pid: number;
  start(): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface ServerSpec extends TrackedOptions {
  command: string;
  arguments: string[];
  logFile: string;
  stopSignal: NodeJS.Signals;
  /** True, or no error, when the server answers. */
  isReady: () => Promise<boolean>;
  /** Says what to do when the command does not exist. */
  whenMissing: string;
}

/** One server that can be stopped and started again with the same arguments. */
export function serverProcess(spec: ServerSpec): ServerProcess {
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const spawned = spawnTracked(spec.command, spec.arguments, spec);
    child = spawned;
    let failure: Error | undefined;
    spawned.once("error", (error: NodeJS.ErrnoException) => {
      failure = error.code === "ENOENT" ? new Error(spec.whenMissing) : error;
    });
    await waitUntil(spec.name, 30_000, async () => {
      if (failure !== undefined) throw new Stopped(failure.message);
      if (hasExited(spawned))
        throw new Stopped(
          `${spec.name} stopped while starting:\n${await lastLines(spec.logFile)}`,
        );
      return spec.isReady();
    });
  }

  return {
    get pid() {
      return child?.pid ?? 0;
    },
    start,
    async stop(signal) {
      if (child !== undefined)
        await stopChild(child, signal ?? spec.stopSignal);
    },
  };
}

/** Ends a wait at once: trying again cannot help. */
class Stopped extends Error {}

/** Asks every 15 ms until the answer is true; an error counts as "not yet". */
export async function waitUntil(
  what: string,
  timeoutMs: number,
  isTrue: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      if (await isTrue()) return;
    } catch (error) {
      if (error instanceof Stopped) throw error;
      lastError = error;
    }
    if (Date.now() > deadline)
      throw new Error(`${what} did not answer within ${timeoutMs / 1000} s`, {
        cause: lastError,
      });
    await sleep(15);
  }
}

async function lastLines(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(() => "");
  return (
    text.trimEnd().split("\n").slice(-8).join("\n") || `(no output in ${file})`
  );
}
