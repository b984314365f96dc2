import type { Delivery } from "@pipeline/shared/entries";
import { PipelineError } from "@pipeline/shared/errors";
import type {
  Burial,
  Settlement,
  SettleResult,
} from "@pipeline/shared/queue/consumer";
import { createSealer } from "@pipeline/shared/seal";
import { expect, test } from "vitest";
import type { SendResult } from "../core/outcome.ts";
import type { AttemptRecord } from "../core/record.ts";
import type { Work } from "../core/work.ts";
import { createDeliver } from "./deliver.ts";
import type { Endpoint } from "./read-endpoints.ts";
import type { SendRequest } from "./http-sender.ts";
import { SAMPLE_DELIVERY as delivery } from "../sample-delivery.ts";

const ENDPOINT_ID = "5f0e9c7a-2f0c-4f6e-9a59-0d1f5c0a7b11";
const NOW = Date.parse("2026-03-01T12:00:00Z");
const SEND_MS = 40;

const workOf = (changes: Partial<Delivery>): Work => ({
  entryId: `${NOW - 1000}-0`,
  delivery: { ...delivery, ...changes },
  endpoint: "x",
  origin: null,
  hasWaited: false,
  isParsed: true,
});
const endpoint: Endpoint = {
  url: "https://y.test/now",
  secret: null,
  headers: null,
  isActive: true,
  updatedAt: null,
};
const answer = (
  status: number,
  headers: Record<string, string> = {},
): SendResult => ({ kind: "answer", status, headers, body: "" });
const failure = (errorType: "network" | "timeout" | "blocked"): SendResult => ({
  kind: "failure",
  errorType,
  error: "why",
});

function setUp(options: {
  result?: SendResult;
  settled?: SettleResult | Error;
  find?: () => Endpoint | null;
}) {
  const { result = answer(200), settled = "settled" } = options;
  const sealer = createSealer(Buffer.alloc(32, 1).toString("base64"));
  const steps: string[] = [];
  const sent: SendRequest[] = [];
  const settlements: Settlement[] = [];
  const reports: { decision: string; isStale: boolean; durationMs: number }[] =
    [];
  const buried: Burial[] = [];
  const disabled: string[] = [];
  const held: [string, number][] = [];
  let now = NOW;
  const { deliver, wait, defer, giveUp } = createDeliver({
    sealer,
    schedule: [5, 25],
    jitter: 0.1,
    now: () => now,
    monotonic: () => now,
    random: () => 0.5,
    endpoints: {
      find: async () => options.find?.() ?? null,
      originOf: () => null,
      disable: (endpointId) => {
        disabled.push(endpointId);
      },
    },
    sender: {
      send: async (request) => {
        steps.push("send");
        sent.push(request);
        now += SEND_MS;
        return result;
      },
    },
    settler: {
      settle: async (settlement) => {
        steps.push("settle");
        settlements.push(settlement);
        if (settled instanceof Error) throw settled;
        return settled;
      },
      bury: async (burial) => {
        steps.push("bury");
        buried.push(burial);
        return "settled";
      },
    },
    report: {
      attempted: (_work, { durationMs }, { kind }, isStale) => {
        steps.push("report");
        reports.push({ decision: kind, isStale, durationMs });
      },
      deferred: () => {
        steps.push("report deferred");
      },
    },
    hold: (endpoint, ms) => {
      held.push([endpoint, ms]);
    },
  });
  return {
    sealer,
    steps,
    sent,
    settlements,
    buried,
    reports,
    disabled,
    held,
    wait,
    defer,
    giveUp,
    deliverWork: (work: Work) => deliver(work, () => steps.push("onSend")),
    deliver: (changes: Partial<Delivery> = {}) =>
      deliver(workOf(changes), () => {
        steps.push("onSend");
      }),
  };
}

const unavailable = () => {
  throw new PipelineError("DATABASE_UNAVAILABLE", "no answer");
};

test("a delivery is sent byte for byte, settled as a success and then reported", async () => {
  const { deliver, steps, sent, settlements, reports } = setUp({});
  await expect(deliver()).resolves.toBe("answered");
  expect(steps).toEqual(["onSend", "send", "settle", "report"]);
  expect(sent).toMatchObject([
    { url: "https://x.test/hook", body: '{ "n" : 1.0 }' },
  ]);
  expect(settlements).toMatchObject([
    {
      deliveryId: "d-1",
      attempt: 1,
      kind: "success",
      delayMs: 0,
      fields: null,
    },
  ]);
  expect(reports).toEqual([
    { decision: "success", isStale: false, durationMs: SEND_MS },
  ]);
});

test.each([
  [1, 5000],
  [2, 25_000],
])(
  "a failed attempt %d is retried after the schedule's delay of %d ms, as the next attempt",
  async (attempt, delayMs) => {
    const { deliver, settlements } = setUp({ result: answer(500) });
    await expect(deliver({ attempt })).resolves.toBe("answered");
    expect(settlements).toMatchObject([
      {
        attempt,
        kind: "retry",
        delayMs,
        fields: { id: "d-1", attempt: `${attempt + 1}`, max_attempts: "3" },
      },
    ]);
  },
);

test("an answer that asks for a longer pause is obeyed, and holds back its endpoint", async () => {
  const { deliver, settlements, held } = setUp({
    result: answer(429, { "retry-after": "60" }),
  });
  await deliver();
  expect(settlements).toMatchObject([{ kind: "retry", delayMs: 60_000 }]);
  expect(held).toEqual([["x", 60_000]]);
});

test.each([answer(500), answer(200, { "retry-after": "60" })])(
  "an answer that asks for no pause, or that took the delivery, holds back nothing",
  async (result) => {
    const { deliver, held } = setUp({ result });
    await deliver();
    expect(held).toEqual([]);
  },
);

test.each([
  [false, "wait"],
  [true, "rewait"],
] as const)(
  "a delivery that must wait keeps its attempt, and goes back to where it stood in line: %s",
  async (hasWaited, kind) => {
    const { wait, steps, settlements } = setUp({});
    await wait({ ...workOf({ attempt: 2, secret: "plain" }), hasWaited });
    expect(steps).toEqual(["report deferred", "settle"]);
    expect(settlements).toMatchObject([
      { kind, endpoint: "x", attempt: 2, delayMs: 0, record: null },
    ]);
    expect(settlements[0]!.fields).toMatchObject({ attempt: "2" });
    expect(settlements[0]!.fields!["secret"]).not.toBe("plain");
  },
);

test("a delivery whose last attempt fails becomes a dead letter with its own fields", async () => {
  const { deliver, settlements } = setUp({ result: answer(503) });
  await deliver({ attempt: 3 });
  expect(settlements).toMatchObject([
    {
      kind: "dead",
      fields: {
        kind: "delivery",
        id: "d-1",
        payload: '{ "n" : 1.0 }',
        reason: "HTTP 503, and no attempt is left after 3",
        failed_at: new Date(NOW + SEND_MS).toISOString(),
      },
    },
  ]);
});

test.each([
  [answer(500), "answered"],
  [answer(429), "busy"],
  [failure("network"), "failed"],
  [failure("timeout"), "timeout"],
  [{ ...answer(200), isCutShort: true }, "timeout"],
  [failure("blocked"), "not asked"],
] as const)("after %j the endpoint counts as %s", async (result, health) => {
  const { deliver } = setUp({ result });
  await expect(deliver()).resolves.toBe(health);
});

test("an endpoint's present settings win over those of the entry", async () => {
  const { deliver, sent } = setUp({ find: () => endpoint });
  await deliver({ endpointId: ENDPOINT_ID });
  expect(sent).toMatchObject([{ url: "https://y.test/now" }]);
});

test("the entry's own URL serves while its endpoint cannot be looked up", async () => {
  const { deliver, sent } = setUp({ find: unavailable });
  await deliver({ endpointId: ENDPOINT_ID });
  expect(sent).toMatchObject([{ url: "https://x.test/hook" }]);
});

test("while its target is unknown a delivery waits in its list, which is held: no attempt, and no token is spent", async () => {
  const { deliver, steps, settlements } = setUp({ find: unavailable });
  const changes = { webhookUrl: null, endpointId: ENDPOINT_ID, attempt: 2 };
  await expect(deliver(changes)).resolves.toBe("not asked");
  expect(steps).toEqual(["report deferred", "settle"]);
  expect(settlements).toMatchObject([
    { kind: "wait", attempt: 2, record: null },
  ]);
  expect(settlements[0]!.fields).toMatchObject({ attempt: "2" });
  expect(settlements[0]!.fields).not.toHaveProperty("reserved");
});

test("a delivery that waits because its target is unknown gives up the moment it has reserved", async () => {
  const { deliver, settlements } = setUp({ find: unavailable });
  await deliver({
    webhookUrl: null,
    endpointId: ENDPOINT_ID,
    isReserved: true,
  });
  expect(settlements[0]!.fields).not.toHaveProperty("reserved");
});

test.each([
  ["there is no such endpoint", null],
  ["the endpoint is disabled", { ...endpoint, isActive: false }],
  ["the endpoint's url must be an http", { ...endpoint, url: "ftp://y.test" }],
])(
  "a delivery whose target is invalid (%s) ends without a request",
  async (reason, found) => {
    const { deliver, steps, settlements, reports } = setUp({
      find: () => found,
    });
    await expect(
      deliver({ webhookUrl: null, endpointId: ENDPOINT_ID }),
    ).resolves.toBe("not asked");
    expect(steps).toEqual(["settle", "report"]);
    expect(settlements[0]!.kind).toBe("dead");
    expect(settlements[0]!.fields!["reason"]).toContain(reason);
    expect(reports).toEqual([
      { decision: "dead", isStale: false, durationMs: 0 },
    ]);
  },
);

test("a secret sealed with another key ends the delivery without a request", async () => {
  const other = createSealer(Buffer.alloc(32, 2).toString("base64"));
  const { deliver, steps, settlements } = setUp({});
  await deliver({ secret: other.seal("s") });
  expect(steps).toEqual(["settle", "report"]);
  expect(settlements[0]!.fields!["reason"]).toMatch(/^secret: /);
});

test("secrets go back to Redis sealed", async () => {
  const { deliver, settlements, sealer } = setUp({ result: answer(500) });
  await deliver({ secret: "plain", headers: '{"x-a":"b"}' });
  const { secret, headers } = settlements[0]!.fields!;
  expect([secret, headers].join()).not.toMatch(/plain|x-a/);
  expect(sealer.open(secret!)).toBe("plain");
  expect(sealer.open(headers!)).toBe('{"x-a":"b"}');
});

test("an endpoint that says it is gone is disabled, and its delivery ends", async () => {
  const { deliver, disabled, settlements } = setUp({
    result: answer(410),
    find: () => endpoint,
  });
  await deliver({ endpointId: ENDPOINT_ID });
  expect(disabled).toEqual([ENDPOINT_ID]);
  expect(settlements[0]!.kind).toBe("dead");
});

test("a refusal other than 410 ends the delivery and leaves its endpoint alone", async () => {
  const { deliver, disabled, settlements } = setUp({
    result: answer(404),
    find: () => endpoint,
  });
  await deliver({ endpointId: ENDPOINT_ID });
  expect(disabled).toEqual([]);
  expect(settlements[0]!.kind).toBe("dead");
});

test.each([
  ["stale", true],
  ["late", false],
  ["settled", false],
] as const)(
  "an attempt whose settlement is %s is reported as stale: %s",
  async (settled, isStale) => {
    const { deliver, reports } = setUp({ settled });
    await deliver();
    expect(reports).toMatchObject([{ isStale }]);
  },
);

test("an attempt that cannot be settled rejects and is not reported", async () => {
  const fault = new Error("the dispatcher has ended");
  const { deliver, steps } = setUp({ settled: fault });
  await expect(deliver()).rejects.toBe(fault);
  expect(steps).toEqual(["onSend", "send", "settle"]);
});

test.each(["1764000000000000000-0", "18446744073709551615-1", "0-1"])(
  "entry %s, whose id cannot be a time, is sent once and settled, and its row was created now",
  async (entryId) => {
    const { deliverWork, settlements, buried, steps } = setUp({});
    const work = workOf({ isPersisted: false });
    await deliverWork({ ...work, entryId });
    expect(steps).toEqual(["onSend", "send", "settle", "report"]);
    const record = JSON.parse(settlements[0]!.record!) as AttemptRecord;
    expect(record.delivery?.["created_at"]).toBe(new Date(NOW).toISOString());
    expect(buried).toEqual([]);
  },
);

const broken = (): never => {
  throw new TypeError("what nobody has thought of");
};

test("what cannot be settled is not sent: its entry is buried", async () => {
  const { deliver, buried, steps } = setUp({});
  const payload = null as unknown as string; // as only a fault in the parser could make it
  await expect(deliver({ payload, isPersisted: false })).resolves.toBe(
    "not asked",
  );
  expect(steps).toEqual(["bury"]);
  expect(buried).toMatchObject([
    { isDelivered: false, reason: expect.stringContaining("cannot handle") },
  ]);
});

test("an endpoint that cannot be looked up for an unknown reason is no reason to read the entry again", async () => {
  const { deliver, steps } = setUp({ find: broken });
  await deliver({ endpointId: ENDPOINT_ID });
  expect(steps).toEqual(["bury"]);
});

test.each([
  [200, true],
  [500, false],
])(
  "when the settlement of an answer %i cannot be built, delivered is %s",
  async (status, isDelivered) => {
    // Not JSON: an answer of the wrong shape, as only a fault in the sender could make it.
    const body = 1n as unknown as string;
    const result = { kind: "answer", status, headers: {}, body } as const;
    const { deliver, buried, steps } = setUp({ result });
    await deliver();
    expect(steps).toEqual(["onSend", "send", "bury"]);
    expect(buried).toMatchObject([{ isDelivered }]);
  },
);

test("the dead letter of a delivery that is given up names it, even if its entry gives no id", async () => {
  const { giveUp, settlements } = setUp({});
  await giveUp(workOf({}), "crash_loop: why", { payload: "{}" });
  expect(settlements[0]!.fields).toMatchObject({ id: "d-1", payload: "{}" });
});

test("a delivery that is put off keeps its attempt, for as long as it was told", async () => {
  const { defer, settlements } = setUp({});
  await defer(workOf({ attempt: 2 }), 1500, true);
  expect(settlements).toMatchObject([
    {
      kind: "defer",
      attempt: 2,
      delayMs: 1500,
      record: null,
      fields: { attempt: "2", reserved: "1" },
    },
  ]);
});

test("a delivery that is put off keeps the number of its reads", async () => {
  const { defer, settlements } = setUp({});
  await defer({ ...workOf({}), timesRead: 2 }, 1500, false);
  await defer(workOf({}), 1500, false);
  expect(settlements[0]!.fields).toMatchObject({ times_read: "2" });
  expect(settlements[1]!.fields).not.toHaveProperty("times_read");
});

test("what is given up becomes a dead letter with the entry's own fields, without a request", async () => {
  const { giveUp, steps, settlements } = setUp({});
  const fields = { payload: "not json", url: "typo" };
  const work = { ...workOf({}), isParsed: false };
  await giveUp(work, "payload: must be valid JSON", fields);
  expect(steps).toEqual(["settle", "report"]);
  expect(settlements).toMatchObject([
    {
      kind: "dead",
      fields: {
        ...fields,
        kind: "entry",
        reason: "payload: must be valid JSON",
      },
    },
  ]);
});

test.each([
  ["whsec_", "secret: must hold at least 16 bytes of base64 after whsec_"],
  ["whsec_!!!!", "secret: must be base64 after whsec_"],
  ["whsec_AAAA", "secret: must hold at least 16 bytes of base64 after whsec_"],
])(
  "a secret that would give an empty or short key, like %s, ends the delivery without sending, whoever set it",
  async (secret, reason) => {
    const ofEndpoint = setUp({ find: () => ({ ...endpoint, secret }) });
    await ofEndpoint.deliver({ endpointId: ENDPOINT_ID });
    const ofProducer = setUp({});
    await ofProducer.deliver({ secret });
    const sealed = setUp({});
    await sealed.deliver({ secret: sealed.sealer.seal(secret) });
    for (const { sent, settlements } of [ofEndpoint, ofProducer, sealed]) {
      expect(sent).toEqual([]);
      expect(settlements).toMatchObject([{ kind: "dead", fields: { reason } }]);
    }
  },
);

test("an empty secret that was sealed signs nothing", async () => {
  const { deliver, sealer, sent, settlements } = setUp({});
  await deliver({ secret: sealer.seal("") });
  expect(sent).toEqual([]);
  expect(settlements).toMatchObject([
    { kind: "dead", fields: { reason: "secret: must not be empty" } },
  ]);
});

test.each(["[]", "42", '{"x-token":"abc\\n"}', '{"Content-Type":"text/xml"}'])(
  "headers that HTTP does not allow, %s, end the delivery without sending",
  async (headers) => {
    const { deliver, sent, settlements } = setUp({
      find: () => ({ ...endpoint, headers }),
    });
    await deliver({ endpointId: ENDPOINT_ID });
    expect(sent).toEqual([]);
    expect(settlements).toMatchObject([
      { kind: "dead", fields: { reason: expect.stringMatching(/^headers: /) } },
    ]);
  },
);
