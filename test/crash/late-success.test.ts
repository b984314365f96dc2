// A receiver's 2xx reaches a dispatcher that had stalled, after another has failed with the same delivery.
import { expect, test } from "vitest";
import { ownStreamForTest } from "../support/own-stream.ts";
import { receiverForTest } from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

test.each([
  ["ended it", 404, "failed"],
  ["put it among the retries", 500, "sent"],
])(
  "a 2xx that is read after another dispatcher has %s makes the delivery a success, and nothing follows",
  async (_what, status, between) => {
    const answered = Promise.withResolvers<void>();
    const receiver = await receiverForTest(async ({ seenBefore }, response) => {
      if (seenBefore === 0) await answered.promise;
      response.writeHead(seenBefore === 0 ? 200 : status).end();
    });
    const own = await ownStreamForTest({
      dispatchers: 1,
      env: { CLAIM_IDLE_MS: "1000", RETRY_DELAYS_SECONDS: "600" },
    });
    const [stalled] = own.running("dispatcher");
    const id = await own.add({ webhook_url: receiver.url, payload: "{}" });
    await until("it is being sent", () => receiver.of(id).length === 1);
    stalled!.child.kill("SIGSTOP");
    answered.resolve();
    await own.start("dispatcher");
    await until(
      "another has failed with it",
      async () => (await own.row(id))?.status === between,
    );
    stalled!.child.kill("SIGCONT");
    await until(
      "the success counts",
      async () => (await own.row(id))?.status === "success",
    );
    await until("nothing is left to be done", own.isIdle);
    expect(await own.row(id)).toMatchObject({ attempt: 1, last_error: null });
    expect(await own.deadLetters()).toEqual([]);
    expect(receiver.of(id)).toHaveLength(2);
  },
);
