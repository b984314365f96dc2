import {
  execFileSync,
  spawn,
  type ChildProcess,
  type SpawnOptions,
} from "node:child_process";
import {
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { stateFolder } from "./paths.ts";

/**
 * Child processes that never outlive this one. They die on normal exit, on an uncaught error and on SIGINT, SIGTERM
 * and SIGHUP. A kill -9 leaves no chance, so every pid also stands in a state file that the next start or
 * `./run down` sweeps. Children are detached: Ctrl-C in a terminal must reach the parent alone, which stops them in order.
 */
interface Entry {
  pid: number;
  name: string;
  /** Start time as the system reports it; a recycled pid has another. */
  startedAt: string;
}
interface State {
  parent: Entry;
  children: Entry[];
  /** Temporary folders to delete once the children are gone. */
  folders: string[];
}

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

/** Ends what earlier runs left behind; with `live`, also runs that are still going. Returns a line for each thing done. */
export async function sweep(options: { live: boolean }): Promise<string[]> {
  const report: string[] = [];
  for (const state of readStates()) {
    const parentLives = isSame(state.parent);
    if (parentLives && (!options.live || state.parent.pid === process.pid))
      continue;
    if (parentLives) {
      report.push(`stopping ${state.parent.name} (pid ${state.parent.pid})`);
      await end(state.parent, "SIGTERM", 40_000);
    }
    for (const entry of state.children.filter(isSame)) {
      report.push(
        `stopping ${entry.name} (pid ${entry.pid}), left by a run that was killed`,
      );
      await end(entry, entry.name === "postgres" ? "SIGINT" : "SIGTERM", 5_000);
    }
    for (const folder of state.folders)
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    rmSync(`${stateFolder}/${state.parent.pid}.json`, { force: true });
  }
  return report;
}

async function end(
  entry: Entry,
  signal: NodeJS.Signals,
  graceMs: number,
): Promise<void> {
  const deadline = Date.now() + graceMs;
  process.kill(entry.pid, signal);
  while (isSame(entry)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (Date.now() > deadline && isSame(entry))
      process.kill(entry.pid, "SIGKILL");
  }
}

function install(): void {
  if (installed) return;
  installed = true;
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

function readStates(): State[] {
  try {
    return readdirSync(stateFolder)
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => {
        try {
          return [
            JSON.parse(readFileSync(`${stateFolder}/${name}`, "utf8")) as State,
          ];
        } catch {
          return []; // being written at this moment
        }
      });
  } catch {
    return []; // no such folder: nothing was ever started
  }
}

function isSame(entry: Entry): boolean {
  return startTimeOf(entry.pid) === entry.startedAt;
}

/** Undefined when no such process runs (a zombie does not count). */
export function startTimeOf(pid: number): string | undefined {
  try {
    if (process.platform === "linux") {
      // The second field is the name in parentheses and may hold spaces; start time is field 22, state is field 3.
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
        .replace(/^.*\) /s, "")
        .split(" ");
      return fields[0] === "Z" ? undefined : fields[19];
    }
    return (
      execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }).trim() || undefined
    );
  } catch {
    return undefined;
  }
}
