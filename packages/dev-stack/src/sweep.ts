import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { stateFolder } from "./paths.ts";

/** A process as it is written to a state file. */
export interface TrackedProcess {
  pid: number;
  name: string;
  /** Start time as the system reports it. It tells the process from a later one with the same pid. */
  startedAt: string;
}
/** What one process has started. `children.ts` writes it to a state file. */
export interface RunState {
  parent: TrackedProcess;
  children: TrackedProcess[];
  /** Temporary folders to delete once the children are gone. */
  folders: string[];
}

/** Ends what earlier runs left behind and, with `live`, runs that are still going. Returns a line for each process. */
export async function sweep(options: { live: boolean }): Promise<string[]> {
  const report: string[] = [];
  for (const state of readStates()) {
    const isParentRunning = isRunning(state.parent);
    if (isParentRunning && (!options.live || state.parent.pid === process.pid))
      continue;
    if (isParentRunning) {
      report.push(`stopping ${state.parent.name} (pid ${state.parent.pid})`);
      await end(state.parent, "SIGTERM", 40_000);
    }
    for (const child of state.children.filter(isRunning)) {
      report.push(
        `stopping ${child.name} (pid ${child.pid}), left by a run that was killed`,
      );
      // On SIGTERM Postgres would wait for its clients to disconnect.
      await end(child, child.name === "postgres" ? "SIGINT" : "SIGTERM", 5_000);
    }
    for (const folder of state.folders)
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    rmSync(`${stateFolder}/${state.parent.pid}.json`, { force: true });
  }
  return report;
}

async function end(
  tracked: TrackedProcess,
  signal: NodeJS.Signals,
  graceMs: number,
): Promise<void> {
  const deadline = Date.now() + graceMs;
  process.kill(tracked.pid, signal);
  while (isRunning(tracked)) {
    await sleep(50);
    if (Date.now() > deadline && isRunning(tracked))
      process.kill(tracked.pid, "SIGKILL");
  }
}

function readStates(): RunState[] {
  try {
    return readdirSync(stateFolder)
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => {
        try {
          return [
            JSON.parse(
              readFileSync(`${stateFolder}/${name}`, "utf8"),
            ) as RunState,
          ];
        } catch {
          return []; // just being written, or just deleted
        }
      });
  } catch {
    return []; // no such folder: nothing has ever been started
  }
}

/** Whether this process, not another one with its pid, is running. */
export function isRunning({ pid, startedAt }: TrackedProcess): boolean {
  return startTimeOf(pid) === startedAt;
}

/** Undefined when no such process is running. A zombie counts as not running. */
export function startTimeOf(pid: number): string | undefined {
  try {
    if (process.platform === "linux") {
      // Field 2 is the name in parentheses and may contain spaces; field 3 is the state, field 22 the start time.
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
