// When a failed delivery is tried again, and when not.
import {
  afterAll,
  beforeAll,
  describe,
  expect,
  onTestFinished,
  test,
} from "vitest";
import { type OwnStream, startOwnStream } from "../support/own-stream.ts";
import {
  type Answer,
  receiverForTest,
  type TestReceiver,
} from "../support/test-receiver.ts";
import { until } from "../support/until.ts";

let own: OwnStream;
beforeAll(async () => {
  own = await startOwnStream({ schedulers: 1 });
});
afterAll(() => own.close());

/** What promoting, reading and sending may take, on a busy machine. */
const LATE_MS = 1500;
/** The first `times` attempts of each delivery fail. */
const failing =
  (
    times: number,
    status: number,
    headers: () => Record<string, string> = () => ({}),
  ): Answer =>
  (request, response) => {
    response.writeHead(request.seenBefore < times ? status : 200, headers());
    response.end();
  };
/** At least three seconds; a date has whole ones, so of four three are left. */
const RETRY_AFTER = {
  seconds: () => "3",
  "a date": () => new Date(Date.now() + 4000).toUTCString(),
};
const add = (receiver: TestReceiver, more: Record<string, string> = {}) =>
  own.add({ webhook_url: receiver.url, payload: "{}", ...more });
const gaps = ({ requests }: TestReceiver) =>
  requests.slice(1).map(({ at }, i) => at - requests[i]!.at);

function expectGaps(receiver: TestReceiver, expected: number[]): void {
  const found = gaps(receiver);
  expect(found).toHaveLength(expected.length);
  for (const [i, ms] of expected.entries()) {
    expect(found[i]).toBeGreaterThanOrEqual(ms);
    expect(found[i]).toBeLessThan(ms + LATE_MS);
  }
}

describe.concurrent("retries", () => {
  test.each([
    '{ "z":9007199254740993, "a" : 1.0,"a":-0,\t"1":[1e400, 1E5] }',
    String.raw`{"a":"\u0000 \ud800 \u00e9"}`,
    '{"n":1e200000}',
    "12345678901234567890",
  ])(
    "send the bytes of the first attempt, and so does what is rebuilt from the row: %s",
    async (payload) => {
      const receiver = await receiverForTest(failing(1, 500), onTestFinished);
      const id = await own.add({ webhook_url: receiver.url, payload });
      const row = await own.ended(id, 30_000);
      expect(row).toMatchObject({ status: "success", attempt: 2 });
      const bodies = receiver.of(id).map(({ body }) => body.toString());
      expect(bodies).toEqual([payload, payload]);
      expect(row["payload_text"]).toBe(payload);
    },
  );

  test("a delivery that keeps failing is tried on schedule, four times in all, and is dead then", async ({
    onTestFinished,
  }) => {
    const receiver = await receiverForTest(failing(9, 503), onTestFinished);
    const id = await add(receiver);
    await until("the first attempt is recorded", async () => {
      const row = await own.row(id);
      return row?.status === "sent" && row["next_retry_at"] !== null;
    });
    const row = await own.ended(id, 30_000);
    expectGaps(receiver, [1000, 2000, 3000]);
    expect(row).toMatchObject({
      status: "failed",
      attempt: 4,
      max_attempts: 4,
      response_status: 503,
      last_error: "HTTP 503",
      next_retry_at: null,
    });
    const attempts = await own.attempts(id);
    expect(attempts.map((each) => each.attempt_number)).toEqual([1, 2, 3, 4]);
    expect(attempts.map((each) => each["will_retry"])).toEqual([
      true,
      true,
      true,
      false,
    ]);
    const letter = (await own.deadLetters()).find((each) => each["id"] === id);
    expect(letter).toMatchObject({
      webhook_url: receiver.url,
      payload: "{}",
      attempt: "4",
      reason: "HTTP 503, and no attempt is left after 4",
      failed_at: expect.stringMatching(/^\d{4}-/),
    });
  });

  test("a receiver that recovers gets the delivery once more and no more", async ({
    onTestFinished,
  }) => {
    const receiver = await receiverForTest(failing(2, 500), onTestFinished);
    const id = await add(receiver);
    expect(await own.ended(id)).toMatchObject({
      status: "success",
      attempt: 3,
      last_error: null,
    });
    expectGaps(receiver, [1000, 2000]);
    expect(new Set(receiver.requests.map((request) => request.id)).size).toBe(
      1,
    );
  });

  test.for(["seconds", "a date"] as const)(
    "Retry-After in %s is honoured",
    async (form, { onTestFinished }) => {
      const asking = failing(1, 429, () => ({
        "retry-after": RETRY_AFTER[form](),
      }));
      const receiver = await receiverForTest(asking, onTestFinished);
      await own.ended(await add(receiver));
      const [gap] = gaps(receiver);
      expect(gap).toBeGreaterThanOrEqual(3000);
      expect(gap).toBeLessThan(4000 + LATE_MS);
    },
  );

  test("a Retry-After that is sooner than the schedule does not bring the attempt forward", async ({
    onTestFinished,
  }) => {
    const soon = failing(1, 503, () => ({ "retry-after": "0" }));
    const receiver = await receiverForTest(soon, onTestFinished);
    const row = await own.ended(await add(receiver));
    expect(row.attempt).toBe(2);
    expectGaps(receiver, [1000]);
  });

  /** First the status that the path names, then 204. */
  const statusOfPath: Answer = (request, response) => {
    const status =
      request.seenBefore === 0 ? Number(request.path.slice(1)) : 204;
    response.writeHead(status, { location: "/200" }).end();
  };

  async function endingsOf(receiver: TestReceiver, statuses: number[]) {
    const ending = async (status: number) => {
      const webhook_url = `${receiver.url}/${status}`;
      const row = await own.ended(
        await own.add({ webhook_url, payload: "{}" }),
      );
      return [status, row.status, row.attempt, row.last_error];
    };
    return Promise.all(statuses.map(ending));
  }

  test("408, 425, 429 and every 5xx are retried", async ({
    onTestFinished,
  }) => {
    const receiver = await receiverForTest(statusOfPath, onTestFinished);
    const statuses = [408, 425, 429, 500, 501, 502, 503, 504, 599];
    expect(await endingsOf(receiver, statuses)).toEqual(
      statuses.map((status) => [status, "success", 2, null]),
    );
  });

  test("every other 4xx is final", async ({ onTestFinished }) => {
    const receiver = await receiverForTest(statusOfPath, onTestFinished);
    const statuses = [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451];
    expect(await endingsOf(receiver, statuses)).toEqual(
      statuses.map((status) => [status, "failed", 1, `HTTP ${status}`]),
    );
    expect(receiver.requests).toHaveLength(statuses.length);
  });

  test("a redirect is final and not followed", async ({ onTestFinished }) => {
    const receiver = await receiverForTest(statusOfPath, onTestFinished);
    const statuses = [300, 301, 302, 303, 307, 308];
    const told = (status: number) =>
      `HTTP ${status}: redirects are not followed`;
    expect(await endingsOf(receiver, statuses)).toEqual(
      statuses.map((status) => [status, "failed", 1, told(status)]),
    );
    expect(receiver.requests).toHaveLength(statuses.length);
  });

  test("an entry's own max_attempts counts all its attempts", async ({
    onTestFinished,
  }) => {
    const receiver = await receiverForTest(failing(9, 500), onTestFinished);
    const id = await add(receiver, { max_attempts: "1" });
    expect(await own.ended(id)).toMatchObject({ status: "failed", attempt: 1 });
    expect(receiver.requests).toHaveLength(1);
  });
});
