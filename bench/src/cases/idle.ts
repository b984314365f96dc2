// What a stack without work costs: one process of each service, no delivery.
import { setTimeout as sleep } from "node:timers/promises";
import { cpuSeconds } from "../process-usage.ts";
import type { Rig } from "../rig.ts";
import { type Case, withoutGoal } from "./case.ts";

const SECONDS = 30;
const MOST_PER_SECOND = 10;

/** Calls by command. Commands that scripts run count as well, under their own names. */
async function callsByCommand({ redis }: Rig): Promise<Map<string, number>> {
  const text = await redis.info("commandstats");
  return new Map(
    Array.from(text.matchAll(/cmdstat_(\S+?):calls=(\d+)/g), (match) => [
      match[1]!,
      Number(match[2]),
    ]),
  );
}

export const idleCase: Case = {
  name: "idle",
  run: async ({ rig, quick, progress }) => {
    await rig.reset();
    await rig.start("ingest");
    await rig.start("dispatcher");
    await rig.start("retry-scheduler");
    await sleep(5000); // start-up is not idle
    const seconds = quick ? 10 : SECONDS;
    const before = await callsByCommand(rig);
    const pids = Object.values(rig.pids()).flat();
    const cpuBefore = cpuSeconds(pids);
    await sleep(seconds * 1000);
    const cpu = cpuSeconds(pids) - cpuBefore;
    const after = await callsByCommand(rig);
    await rig.stopServices();
    let calls = 0;
    for (const [command, count] of after) {
      const made = count - (before.get(command) ?? 0);
      if (made === 0 || command === "info") continue;
      progress(`${command}: ${(made / seconds).toFixed(2)}/s`);
      calls += made;
    }
    return { "Redis commands": calls / seconds, CPU: (cpu / seconds) * 100 };
  },
  figures: [
    {
      figure: "Redis commands",
      unit: "/s",
      goal: `< ${MOST_PER_SECOND}/s`,
      isMet: (perSecond) => perSecond < MOST_PER_SECOND,
    },
    withoutGoal("CPU", "% of a core"),
  ],
};
