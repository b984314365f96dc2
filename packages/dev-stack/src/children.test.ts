import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTimeOf, sweep } from "./sweep.ts";
import { waitUntil } from "./server-process.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(`${tmpdir()}/webhook-children-`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A process that has one child and one temporary folder; `then` is what it does next. */
async function startParent(then: string) {
  const owned = await mkdtemp(`${folder}/owned-`);
  const script = `${folder}/${Math.random()}.mts`;
  await writeFile(
    script,
    `import { spawnTracked, trackFolder } from ${JSON.stringify(new URL("children.ts", import.meta.url).href)};
     trackFolder(${JSON.stringify(owned)});
     const child = spawnTracked("sleep", ["100"], { name: "sleeper" });
     ${then}
     console.log(child.pid);`,
  );
  const parent = spawn(process.execPath, [script], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const exited = once(parent, "exit");
  const [line] = (await once(
    createInterface({ input: parent.stdout }),
    "line",
  )) as [string];
  return { parent, exited, childPid: Number(line), owned };
}

const runs = (pid: number) => startTimeOf(pid) !== undefined;

// It listens to signals too, but does not act on them.
const containers = JSON.stringify(
  new URL("containers.ts", import.meta.url).href,
);

it.each([
  ["it ends", "setTimeout(() => process.exit(0), 50);", undefined],
  [
    "an error is not caught",
    "setTimeout(() => { throw new Error('x'); }, 50);",
    undefined,
  ],
  ["SIGTERM arrives", "setInterval(() => {}, 1000);", "SIGTERM"],
  ["SIGINT arrives", "setInterval(() => {}, 1000);", "SIGINT"],
  [
    "SIGINT arrives with testcontainers loaded",
    `setInterval(() => {}, 1000); await import(${containers});`,
    "SIGINT",
  ],
] as const)(
  "takes its children and temporary folders along when %s",
  async (_when, then, signal) => {
    const { parent, exited, childPid, owned } = await startParent(then);
    if (signal !== undefined) parent.kill(signal);
    const [, endedBy] = (await exited) as [number | null, string | null];
    expect(endedBy).toBe(signal ?? null);
    await waitUntil("the end of the child", 2_000, async () => !runs(childPid));
    expect(existsSync(owned)).toBe(false);
  },
);

it("leaves a signal to the program when that handles it", async () => {
  const { parent, exited, childPid } = await startParent(
    `process.on("SIGTERM", () => setTimeout(() => process.exit(child.exitCode === null && child.signalCode === null ? 7 : 8), 50));
     setInterval(() => {}, 1000);`,
  );
  parent.kill("SIGTERM");
  expect(await exited).toEqual([7, null]);
  expect(runs(childPid)).toBe(false);
});

it("is cleaned up after a kill -9 of the parent", async () => {
  const { parent, exited, childPid, owned } = await startParent(
    "setInterval(() => {}, 1000);",
  );
  await sweep({ live: false });
  expect(runs(childPid)).toBe(true);
  parent.kill("SIGKILL");
  await exited;
  await waitUntil(
    "the end of the child and its folder",
    5_000,
    async () => !runs(childPid) && !existsSync(owned),
  );
}, 15_000);
