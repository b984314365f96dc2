import { expect, test } from "vitest";
import { createSlowNames } from "./slow-names.ts";

test("who names what is slow waits for the last of it, and others do not", async () => {
  const slow = createSlowNames();
  const leaveFirst = slow.enter(["a", "b"], false);
  await expect(slow.free(["a", "b"], 0)).resolves.toBe(true);
  const leaveAlone = slow.enter(["a"], true);
  await expect(slow.free(["b", "c"], 0)).resolves.toBe(true);
  await expect(slow.free(["a", "c"], 0)).resolves.toBe(false);
  const leaveSecond = slow.enter(["b", "b"], false);
  await expect(slow.free(["b"], 0)).resolves.toBe(false);
  leaveSecond();
  await expect(slow.free(["b"], 0)).resolves.toBe(true);

  const waiting = slow.free(["a"], 60_000);
  leaveFirst();
  await expect(slow.free(["a"], 0)).resolves.toBe(false);
  leaveAlone();
  await expect(waiting).resolves.toBe(true);
});
