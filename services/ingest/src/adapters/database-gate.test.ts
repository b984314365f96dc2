import { type DatabaseContact, PipelineError } from "@pipeline/shared/errors";
import { describe, expect, test } from "vitest";
import { createDatabaseGate } from "./database-gate.ts";

const REST_MS = 1000;
const fault = (contact: DatabaseContact) =>
  new PipelineError("DATABASE_UNAVAILABLE", contact, { contact });

function setUp() {
  let time = 0;
  let calls = 0;
  const gate = createDatabaseGate(REST_MS, () => time);
  const call = (result: () => Promise<string>) =>
    gate.run(() => {
      calls++;
      return result();
    });
  const fail = (error: PipelineError) => {
    const failing = async () => {
      throw error;
    };
    return expect(call(failing)).rejects.toBe(error);
  };
  return {
    advance: (ms: number) => {
      time += ms;
    },
    calls: () => calls,
    call,
    fail,
    succeed: () => call(() => Promise.resolve("yes")),
    shut: async () => {
      await fail(fault("unreached"));
      await fail(fault("unanswered"));
    },
  };
}

const atOnce = { contact: "unreached", message: /a moment ago/ };

describe("the database gate", () => {
  test("fails at once for a while after the database was away, without calling it", async () => {
    const { shut, succeed, calls, advance } = setUp();
    await shut();
    advance(REST_MS - 1);
    await expect(succeed()).rejects.toMatchObject({
      code: "DATABASE_UNAVAILABLE",
      contact: atOnce.contact,
    });
    expect(calls()).toBe(2);
    advance(1);
    await expect(succeed()).resolves.toBe("yes");
    await expect(succeed()).resolves.toBe("yes");
    expect(calls()).toBe(4);
  });

  test("stays open after one call without an answer, and after two with an answer between them", async () => {
    const { fail, succeed, calls } = setUp();
    await fail(fault("unanswered"));
    await expect(succeed()).resolves.toBe("yes");
    await fail(fault("unanswered"));
    await expect(succeed()).resolves.toBe("yes");
    expect(calls()).toBe(4);
  });

  test("stays open for calls that time out while others are answered", async () => {
    const { call, fail, succeed, advance } = setUp();
    const slow = [
      Promise.withResolvers<string>(),
      Promise.withResolvers<string>(),
    ];
    const ends = slow.map(({ promise }) => call(() => promise));
    advance(2000);
    await expect(succeed()).resolves.toBe("yes");
    advance(1000);
    for (const { reject } of slow) reject(fault("unanswered"));
    expect(
      (await Promise.allSettled(ends)).map(({ status }) => status),
    ).toEqual(["rejected", "rejected"]);
    await expect(succeed()).resolves.toBe("yes");
    await fail(fault("unanswered"));
  });

  test.each([
    new PipelineError("DATABASE_REFUSED", "a refusal", {
      sqlState: "22P02",
      contact: "answered",
    }),
    new PipelineError("DATABASE_UNAVAILABLE", "a lock timeout", {
      sqlState: "55P03",
      contact: "answered",
    }),
  ])("stays open after $message, however often", async (error) => {
    const { fail, succeed } = setUp();
    for (let i = 0; i < 10; i++) await fail(error);
    await expect(succeed()).resolves.toBe("yes");
  });

  test("lets one call probe while the others still fail at once", async () => {
    const { shut, succeed, call, calls, advance } = setUp();
    await shut();
    advance(REST_MS);
    const slow = Promise.withResolvers<string>();
    const probe = call(() => slow.promise);
    await expect(succeed()).rejects.toMatchObject({
      code: "DATABASE_UNAVAILABLE",
    });
    expect(calls()).toBe(3);
    slow.resolve("back");
    await expect(probe).resolves.toBe("back");
    await expect(succeed()).resolves.toBe("yes");
  });

  test("shuts again when the probe fails", async () => {
    const { shut, fail, succeed, advance } = setUp();
    await shut();
    advance(REST_MS);
    await fail(fault("unanswered"));
    await expect(succeed()).rejects.toThrow(atOnce.message);
  });

  test("opens when the probe is answered by a refusal", async () => {
    const { shut, fail, succeed, advance } = setUp();
    await shut();
    advance(REST_MS);
    await fail(fault("answered"));
    await expect(succeed()).resolves.toBe("yes");
  });
});
