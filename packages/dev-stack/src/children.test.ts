import { randomUUID } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTimeOf, sweep } from "./sweep.ts";
import { waitUntil } from "./wait-until.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(`${tmpdir()}/webhook-children-`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const fileUrl = (name: string) =>
  JSON.stringify(new URL(name, import.meta.url).href);

/** A process with one child and one temporary folder. It runs `before`, prints the child's pid, and runs `after`. */
async function startParent({ before = "", after = "" }) {
  const owned = await mkdtemp(`${folder}/owned-`);
  const script = `${folder}/${randomUUID()}.mts`;
  await writeFile(
    script,
    `import { spawnTracked, trackFolder } from ${fileUrl("children.ts")};
     import { startTimeOf } from ${fileUrl("sweep.ts")};
     trackFolder(${JSON.stringify(owned)});
     const child = spawnTracked("sleep", ["100"], { name: "sleeper" });
     ${before}
     console.log(child.pid);
     ${after}`,
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

// A dependency of testcontainers also listens to signals, but leaves it to others to act on them.
const loadTestcontainers = `await import(${fileUrl("containers.ts")});`;

test.each([
  ["it ends", { after: "process.exit(0);" }, undefined],
  ["an error is not caught", { after: "throw new Error('x');" }, undefined],
  ["SIGTERM arrives", {}, "SIGTERM"],
  ["SIGINT arrives", {}, "SIGINT"],
  [
    "SIGINT arrives with testcontainers loaded",
    { before: loadTestcontainers },
    "SIGINT",
  ],
] as const)(
  "a process ends its children and deletes its temporary folders when %s",
  async (_when, steps, signal) => {
    const { parent, exited, childPid, owned } = await startParent(steps);
    if (signal !== undefined) parent.kill(signal);
    const [, endedBy] = (await exited) as [number | null, string | null];
    expect(endedBy).toBe(signal ?? null);
    await waitUntil("the child is gone", 2_000, () => !runs(childPid));
    expect(existsSync(owned)).toBe(false);
  },
);

test("a program that handles a signal itself keeps its children until it exits", async () => {
  const { parent, exited, childPid } = await startParent({
    before: `process.on("SIGTERM", () => process.exit(startTimeOf(child.pid) === undefined ? 8 : 7));`,
  });
  parent.kill("SIGTERM");
  expect(await exited).toEqual([7, null]);
  expect(runs(childPid)).toBe(false);
});

test("after a kill -9 of the parent the watchdog ends its children and deletes its folders", async () => {
  const { parent, exited, childPid, owned } = await startParent({});
  await sweep({ live: false });
  expect(runs(childPid)).toBe(true);
  parent.kill("SIGKILL");
  await exited;
  await waitUntil(
    "the child and its folder are gone",
    5_000,
    () => !runs(childPid) && !existsSync(owned),
  );
}, 15_000);
