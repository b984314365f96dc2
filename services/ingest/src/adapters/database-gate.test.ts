import { PipelineError } from "@pipeline/shared/errors";
import { describe, expect, test } from "vitest";
import { createDatabaseGate } from "./database-gate.ts";

function setUp() {
  let time = 0;
  let calls = 0;
  const gate = createDatabaseGate(1000, () => time);
  const call = (result: () => Promise<string>) =>
    gate.run(() => {
      calls++;
      return result();
    });
  return {
    advance: (ms: number) => {
      time += ms;
    },
    calls: () => calls,
    succeed: () => call(() => Promise.resolve("yes")),
    fail: (code: "DATABASE_UNAVAILABLE" | "DATABASE_REFUSED") =>
      call(() => Promise.reject(new PipelineError(code, "no"))),
    call,
  };
}

describe("the database gate", () => {
  test("fails at once for a while after the database was away, without calling it", async () => {
    const { fail, succeed, calls, advance } = setUp();
    await expect(fail("DATABASE_UNAVAILABLE")).rejects.toThrow("no");
    advance(999);
    await expect(succeed()).rejects.toMatchObject({
      code: "DATABASE_UNAVAILABLE",
    });
    expect(calls()).toBe(1);
    advance(1);
    await expect(succeed()).resolves.toBe("yes");
    await expect(succeed()).resolves.toBe("yes");
    expect(calls()).toBe(3);
  });

  test("lets one call probe while the others still fail at once", async () => {
    const { fail, succeed, call, calls, advance } = setUp();
    await expect(fail("DATABASE_UNAVAILABLE")).rejects.toThrow("no");
    advance(1000);
    const slow = Promise.withResolvers<string>();
    const probe = call(() => slow.promise);
    await expect(succeed()).rejects.toMatchObject({
      code: "DATABASE_UNAVAILABLE",
    });
    expect(calls()).toBe(2);
    slow.resolve("back");
    await expect(probe).resolves.toBe("back");
    await expect(succeed()).resolves.toBe("yes");
  });

  test("closes again when the probe fails", async () => {
    const { fail, succeed, advance } = setUp();
    await expect(fail("DATABASE_UNAVAILABLE")).rejects.toThrow("no");
    advance(1000);
    await expect(fail("DATABASE_UNAVAILABLE")).rejects.toThrow("no");
    await expect(succeed()).rejects.toMatchObject({
      code: "DATABASE_UNAVAILABLE",
    });
  });

  test("stays open when the database refuses a row", async () => {
    const { fail, succeed } = setUp();
    await expect(fail("DATABASE_REFUSED")).rejects.toThrow("no");
    await expect(succeed()).resolves.toBe("yes");
  });
});
