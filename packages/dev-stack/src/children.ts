import {
  spawn,
  type ChildProcess,
  type SpawnOptions,
} from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { stateFolder } from "./paths.ts";
import {
  isRunning,
  startTimeOf,
  type RunState,
  type TrackedProcess,
} from "./sweep.ts";

/**
 * Child processes that never outlive this one. This process ends them on normal exit, on an uncaught error and on SIGINT,
 * SIGTERM and SIGHUP. After a kill -9 it cannot: then a watchdog process, which sees its pipe close, reads the pids from a
 * state file and ends them. `./run down` reads the same file. Children are detached, because Ctrl-C in a terminal must
 * reach only the parent, which stops them in order.
 */
const stateFile = `${stateFolder}/${process.pid}.json`;
const children = new Map<
  number,
  { tracked: TrackedProcess; child: ChildProcess; killSignal: NodeJS.Signals }
>();
const folders = new Set<string>();
const endSteps = new Set<() => void>();
let installed = false;

export interface TrackedOptions extends Omit<
  SpawnOptions,
  "stdio" | "detached"
> {
  name: string;
  /** stdout and stderr are appended to this file. Without it both are pipes. */
  logFile?: string;
  /** Sent to the child if this process ends without having stopped it. */
  killSignal?: NodeJS.Signals;
}

export function spawnTracked(
  command: string,
  args: string[],
  options: TrackedOptions,
): ChildProcess {
  const { name, logFile, killSignal = "SIGKILL", ...spawnOptions } = options;
  install();
  const log = logFile === undefined ? undefined : openSync(logFile, "a");
  const child = spawn(command, args, {
    ...spawnOptions,
    detached: true,
    stdio: ["ignore", log ?? "pipe", log ?? "pipe"],
  });
  if (log !== undefined) closeSync(log);
  const { pid } = child;
  if (pid !== undefined) {
    children.set(pid, {
      tracked: { pid, name, startedAt: startTimeOf(pid) ?? "" },
      child,
      killSignal,
    });
    save();
    child.once("exit", () => {
      children.delete(pid);
      save();
    });
  }
  return child;
}

/** Deletes the folder when this process ends, however it ends. */
export function trackFolder(folder: string): void {
  install();
  folders.add(folder);
  save();
}

export function untrackFolder(folder: string): void {
  folders.delete(folder);
  save();
}

/** Runs the step, which cannot await, when this process ends. Returns a function that cancels this. */
export function runAtEnd(step: () => void): () => void {
  install();
  endSteps.add(step);
  return () => endSteps.delete(step);
}

/** Resolves once the child is gone. Sends SIGKILL if it is not gone after `graceMs`. */
export async function stopChild(
  child: ChildProcess,
  signal: NodeJS.Signals,
  graceMs = 10_000,
): Promise<void> {
  if (child.pid === undefined || hasExited(child)) return;
  const gone = new Promise<void>((resolve) =>
    child.once("exit", () => resolve()),
  );
  child.kill(signal);
  // A process paused with SIGSTOP acts on no signal but SIGKILL until it continues.
  child.kill("SIGCONT");
  const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
  await gone;
  clearTimeout(timer);
}

export function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function install(): void {
  if (installed) return;
  installed = true;
  startWatchdog();
  process.on("exit", killAll);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    const handler = () => {
      // Somebody else handles the signal and will end this process in order; "exit" does the rest.
      if (process.listenerCount(signal) > 1 + passiveListeners()) return;
      killAll();
      process.off(signal, handler);
      process.kill(process.pid, signal);
    };
    process.on(signal, handler);
  }
}

function startWatchdog(): void {
  // After an orderly end there is no state file, and Node need not even start.
  const script = 'cat >/dev/null; [ -e "$1" ] && exec "$0" "$2" --orphans';
  const down = fileURLToPath(new URL("down.ts", import.meta.url));
  const watchdog = spawn(
    "sh",
    ["-c", script, process.execPath, stateFile, down],
    { cwd: "/", detached: true, stdio: ["pipe", "ignore", "ignore"] },
  );
  watchdog.unref();
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref();
}

/**
 * How many listeners of a signal leave it to others to end the process. signal-exit, which testcontainers depends on,
 * registers such listeners, and counts its copies in a global.
 */
function passiveListeners(): number {
  const { __signal_exit_emitter__: emitter } = process as {
    __signal_exit_emitter__?: { count: number };
  };
  return emitter?.count ?? 0;
}

function killAll(): void {
  for (const step of endSteps) step();
  endSteps.clear();
  for (const { child, killSignal } of children.values()) {
    child.kill(killSignal);
    child.kill("SIGCONT");
  }
  // Waits by blocking, because an exit handler cannot await: a server that is still running could write to its folder
  // after the deletion.
  const deadline = Date.now() + 2_000;
  while (
    [...children.values()].some(({ tracked }) => isRunning(tracked)) &&
    Date.now() < deadline
  ) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
  for (const folder of folders) {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      folders.delete(folder);
    } catch {
      // Somebody still writes to it; it stays in the state file for the next sweep.
    }
  }
  children.clear();
  save();
}

function save(): void {
  if (children.size === 0 && folders.size === 0) {
    rmSync(stateFile, { force: true });
    return;
  }
  const parent = {
    pid: process.pid,
    name: process.argv[1] ?? "node",
    startedAt: startTimeOf(process.pid) ?? "",
  };
  const state: RunState = {
    parent,
    children: [...children.values()].map(({ tracked }) => tracked),
    folders: [...folders],
  };
  mkdirSync(stateFolder, { recursive: true });
  writeFileSync(stateFile, JSON.stringify(state, null, 2));
}
