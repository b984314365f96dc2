import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { stateFolder } from "./paths.ts";

/** A process as the state files name it. */
export interface Entry {
  pid: number;
  name: string;
  /** Start time as the system reports it; a recycled pid has another. */
  startedAt: string;
}
/** What one process has started; `children.ts` writes it. */
export interface State {
  parent: Entry;
  children: Entry[];
  /** Temporary folders to delete once the children are gone. */
  folders: string[];
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

/** Whether this very process still runs. */
export function isSame(entry: Entry): boolean {
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
