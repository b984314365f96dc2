// What /proc says about processes: which there are, and how much CPU time and memory they use.
import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;

/** Fields 3 and up of /proc/<pid>/stat. Field 2, the name in parentheses, may contain spaces. */
function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Descendants of this process, with their command lines. */
export function descendants(): { pid: number; command: string }[] {
  const parents = new Map<number, number>();
  const processes: { pid: number; command: string }[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    try {
      parents.set(pid, Number(statFields(pid)[1]));
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      processes.push({ pid, command: command.replaceAll("\0", " ") });
    } catch {
      // it has ended since
    }
  }
  const isDescendant = (pid: number): boolean => {
    const parent = parents.get(pid);
    if (parent === undefined) return false;
    return parent === process.pid || isDescendant(parent);
  };
  return processes.filter(({ pid }) => isDescendant(pid));
}

/** CPU time that the processes have used so far, including children of theirs that have ended. */
export function cpuSeconds(pids: number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const fields = statFields(pid);
      // utime, stime, cutime, cstime
      for (const index of [11, 12, 13, 14]) ticks += Number(fields[index]);
    } catch {
      // It has ended. If it was a child, its parent's cutime and cstime include its time.
    }
  }
  return ticks / TICKS_PER_SECOND;
}

export function residentMegabytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}
