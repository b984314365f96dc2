import { expect, test } from "vitest";
import { databaseFault } from "./database-fault.ts";
import { PipelineError } from "./errors.ts";
import { createUploadSize } from "./upload-size.ts";

const KB = 1024;
const items = Array.from({ length: 500 }, () => 240 * KB);
const own = (size: number) => size;

function setUp() {
  let time = 0;
  const size = createUploadSize(() => time);
  return {
    rest: () => {
      time += 10_000;
    },
    perCall: () => size.split(items, own)[0]!.length,
    succeed: (ms: number) =>
      size.run(async () => {
        time += ms;
      }),
    fail: async (error: PipelineError) => {
      const failing = async () => {
        throw error;
      };
      await expect(size.run(failing)).rejects.toBe(error);
    },
  };
}
const away = () => new PipelineError("DATABASE_UNAVAILABLE", "timed out");

test("a call carries at most 2 MB", () => {
  expect(setUp().perCall()).toBe(8);
});

test("each failure for want of time halves it, down to single items", async () => {
  const { perCall, fail } = setUp();
  const counts = [];
  for (let n = 0; n < 6; n++) {
    await fail(away());
    counts.push(perCall());
  }
  expect(counts).toEqual([4, 2, 1, 1, 1, 1]);
});

test("a body that a gateway finds too large is refused and halves it, other refusals do not", async () => {
  const { perCall, fail } = setUp();
  await fail(new PipelineError("DATABASE_REFUSED", "bad row"));
  expect(perCall()).toBe(8);
  const tooLarge = databaseFault(413, { message: "Request too large" });
  expect(tooLarge.code).toBe("DATABASE_REFUSED");
  await fail(tooLarge);
  expect(perCall()).toBe(4);
});

test("quick calls let it grow again, slow ones shrink it before they fail", async () => {
  const { perCall, fail, succeed, rest } = setUp();
  await fail(away());
  await fail(away());
  await succeed(500);
  expect(perCall()).toBe(2); // what has just failed is not tried again at once
  rest();
  await succeed(2000);
  expect(perCall()).toBe(2);
  await succeed(500);
  expect(perCall()).toBe(4);
  await succeed(500);
  await succeed(500);
  expect(perCall()).toBe(8);
  await succeed(4000);
  expect(perCall()).toBe(4);
});

test("a database that cannot be reached, or that says no, tells nothing about sizes", async () => {
  const { perCall, fail } = setUp();
  for (const contact of ["unreached", "answered"] as const)
    await fail(new PipelineError("DATABASE_UNAVAILABLE", "no", { contact }));
  expect(perCall()).toBe(8);
});
