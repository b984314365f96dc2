import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

/** What a process prints that logs once and ends. */
function printed(log: string): string {
  const file = new URL("logger.ts", import.meta.url).href;
  const script = `import { createLogger } from ${JSON.stringify(file)}; const logger = createLogger("test", "info"); ${log}`;
  return spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
  }).stdout;
}

test("an error is logged in its own words, without what a client library hangs on it", () => {
  const output = printed(`
    const err = Object.assign(new Error("WRONGTYPE"), { code: "E", command: { args: ["https://a.test/hook", "{}"] } });
    logger.error({ err }, "delivery.faulted");
  `);
  const line = JSON.parse(output) as { err: object; msg: string };
  expect(line).toMatchObject({
    level: "error",
    msg: "delivery.faulted",
    err: { message: "WRONGTYPE", code: "E" },
  });
  expect(output).not.toContain("a.test");
});

test("a line that was logged just before the end is not lost", () => {
  expect(printed(`logger.info("last"); process.exit(0);`)).toContain("last");
});
