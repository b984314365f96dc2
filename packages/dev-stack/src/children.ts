import {
  spawn,
  type ChildProcess,
  type SpawnOptions,
} from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { stateFolder } from "./paths.ts";
import { isSame, startTimeOf, type Entry, type State } from "./sweep.ts";

/**
 * Child processes that never outlive this one. They die on normal exit, on an uncaught error and on SIGINT, SIGTERM
 * and SIGHUP. A kill -9 leaves this process no chance: then a watchdog, which sees its pipe close, reads the pids from a
 * state file and ends them. `./run down` reads the same file. Children are detached: Ctrl-C in a terminal must reach the
 * parent alone, which stops them in order.
 */
const stateFile = `${stateFolder}/${process.pid}.json`;
const children = new Map<
  number,
  { entry: Entry; child: ChildProcess; killSignal: NodeJS.Signals }
>();
const folders = new Set<string>();
const endSteps = new Set<() => void>();
let installed = false;

export interface TrackedOptions extends Omit<
  SpawnOptions,
  "stdio" | "detached"
> {
  name: string;
  /** A file that receives stdout and stderr; without it both are pipes. */
  logFile?: string;
  /** Sent when this process exits without having stopped the child. */
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
      entry: { pid, name, startedAt: startTimeOf(pid) ?? "" },
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

/** Runs the step when this process ends without having dropped it; the step cannot await. Returns what drops it. */
export function runAtEnd(step: () => void): () => void {
  install();
  endSteps.add(step);
  return () => endSteps.delete(step);
}

/** Resolves once the child is gone; escalates to SIGKILL after `graceMs`. */
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
  // A stopped (SIGSTOP) process takes no signal but SIGKILL until it continues.
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
      // Somebody else handles the signal and will stop us in order; "exit" then does the rest.
      if (process.listenerCount(signal) > 1 + politeListeners()) return;
      killAll();
      process.off(signal, handler);
      process.kill(process.pid, signal);
    };
    process.on(signal, handler);
  }
}

function startWatchdog(): void {
  // After an orderly end there is no state file, and not even Node is started.
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

/** signal-exit, which testcontainers brings along, listens to every signal but leaves the end to anybody else who does. */
function politeListeners(): number {
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
  // An exit handler cannot await; a folder deleted under a dying server may be written once more.
  const deadline = Date.now() + 2_000;
  while (
    [...children.values()].some(({ entry }) => isSame(entry)) &&
    Date.now() < deadline
  ) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
  for (const folder of folders) {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      folders.delete(folder);
    } catch {
      // Still written to; the state file keeps the folder for the next sweep.
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
  const state: State = {
    parent,
    children: [...children.values()].map(({ entry }) => entry),
    folders: [...folders],
  };
  mkdirSync(stateFolder, { recursive: true });
  writeFileSync(stateFile, JSON.stringify(state, null, 2));
}
