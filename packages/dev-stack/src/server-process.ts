import type { ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import {
  hasExited,
  spawnTracked,
  stopChild,
  type TrackedOptions,
} from "./children.ts";
import { GiveUp, waitUntil } from "./wait-until.ts";

/** A server that can be stopped, killed and started again on the same port, with its data. */
export interface Restartable {
  /** Resolves when the process is gone. Without a signal the server shuts down in order. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Resolves when the server answers. */
  start(): Promise<void>;
}

export interface ServerSpec extends TrackedOptions {
  command: string;
  arguments: string[];
  logFile: string;
  stopSignal: NodeJS.Signals;
  /** Whether the server answers; rejecting means no. */
  isReady: () => Promise<boolean>;
  /** Tells the user what to do when the command does not exist. */
  whenMissing: string;
}

/** A server that runs as a child process. */
export function serverProcess(spec: ServerSpec): Restartable {
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const spawned = spawnTracked(spec.command, spec.arguments, spec);
    child = spawned;
    let failure: Error | undefined;
    spawned.once("error", (error: NodeJS.ErrnoException) => {
      failure = error.code === "ENOENT" ? new Error(spec.whenMissing) : error;
    });
    await waitUntil(`${spec.name} answers`, 30_000, async () => {
      if (failure !== undefined) throw new GiveUp(failure.message);
      if (hasExited(spawned))
        throw new GiveUp(
          `${spec.name} stopped while starting:\n${await lastLines(spec.logFile)}`,
        );
      return spec.isReady();
    });
  }

  return {
    start,
    async stop(signal) {
      if (child !== undefined)
        await stopChild(child, signal ?? spec.stopSignal);
    },
  };
}

async function lastLines(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(() => "");
  return (
    text.trimEnd().split("\n").slice(-8).join("\n") || `(no output in ${file})`
  );
}
