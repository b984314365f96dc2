// An endpoint that hangs must not slow the others down.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

const ANSWER_MS = 200;
const COUNT = 240;

/** Deliveries a second to healthy endpoints, while every tenth goes to an odd one. */
async function paceOfOthers(oddHangs: boolean): Promise<number> {
  const receiver = await receiverForTest(async ({ path }, response) => {
    if (oddHangs && path === "/odd") return; // never answers
    await sleep(ANSWER_MS);
    response.end();
  });
  const own = await ownStreamForTest({
    schedulers: 1,
    env: { RATE_LIMIT_PER_SECOND: "0", ATTEMPT_TIMEOUT_MS: "3000" },
    leavesWork: oddHangs, // what hangs would take a minute
  });
  await Promise.all(
    Array.from({ length: COUNT }, (_, n) =>
      own.add({
        webhook_url: `${receiver.url}/${n % 10 === 5 ? "odd" : n % 3}`,
        payload: "{}",
        max_attempts: "1",
      }),
    ),
  );
  const others = () => receiver.requests.filter(({ path }) => path !== "/odd");
  await until(
    "the others arrived",
    () => others().length === 0.9 * COUNT,
    50_000,
  );
  const instants = others().map(({ at }) => at);
  return (
    (1000 * instants.length) / (Math.max(...instants) - Math.min(...instants))
  );
}

test(
  "a hanging endpoint with a tenth of the traffic takes no fifth of the others' pace",
  { retry: 1 },
  async () => {
    const [undisturbed, disturbed] = await Promise.all([
      paceOfOthers(false),
      paceOfOthers(true),
    ]);
    expect(disturbed).toBeGreaterThan(0.8 * undisturbed);
  },
);
