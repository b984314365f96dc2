import { PipelineError } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import { createUploadSize } from "@pipeline/shared/upload-size";
import { createSealer } from "@pipeline/shared/seal";
import { describe, expect, test } from "vitest";
import type { PlannedDelivery } from "./core/plan-delivery.ts";
import { createHeldRows } from "./core/held-rows.ts";
import { createCreation } from "./creation.ts";
import { createIntake } from "./intake.ts";
import { createSlowNames } from "./slow-names.ts";

const logger = createLogger("test", "silent");

/** An intake whose database answers as the campaign names say: refuse, away, or store. */
function setUp() {
  const calls: number[] = [];
  const enqueued: string[] = [];
  const looked: number[] = [];
  const nameOf = ({ delivery }: PlannedDelivery) =>
    (JSON.parse(delivery.payload) as { campaign: { name: string } }).campaign
      .name;
  const create = (planned: PlannedDelivery[]) => {
    calls.push(planned.length);
    const names = new Set(planned.map(nameOf));
    if (names.has("away"))
      return Promise.reject(
        new PipelineError("DATABASE_UNAVAILABLE", "away", {
          contact: "unreached",
        }),
      );
    if (names.has("refuse"))
      return Promise.reject(new PipelineError("DATABASE_REFUSED", "22P05 bad"));
    if (names.has("orphan"))
      return Promise.reject(
        new PipelineError("DATABASE_REFUSED", "no such lead", {
          sqlState: "23503",
        }),
      );
    return Promise.resolve(
      planned.map(({ delivery }) => ({
        creation: "created" as const,
        id: delivery.id,
        lead_id: null,
        webhook_url: delivery.webhookUrl,
        status: "pending",
        attempt: 1,
      })),
    );
  };
  const held = createHeldRows();
  const slow = createSlowNames();
  const unsure: string[] = [];
  const intake = createIntake({
    lookups: {
      lead: (id) =>
        id === "broken"
          ? Promise.reject(new Error("nobody expects this"))
          : Promise.resolve(null),
      endpoint: () => Promise.resolve(null),
    },
    held,
    slow,
    create: createCreation({
      held,
      slow,
      now: () => performance.now(),
      unsure: {
        add: (id, hasKey) => {
          unsure.push(`${id} ${hasKey}`);
        },
      },
      writes: { create },
    }),
    uploads: createUploadSize(() => performance.now()),
    writes: {
      firstOfKeys: (keys: unknown[]) => {
        looked.push(keys.length);
        return Promise.resolve(keys.map(() => null));
      },
    },
    queue: {
      takeRoom: (want: number) => Promise.resolve(want),
      returnRoom: () => undefined,
      enqueue: (deliveries) => {
        enqueued.push(...deliveries.map(({ id }) => id));
        return Promise.resolve(deliveries.length);
      },
    },
    sealer: createSealer(Buffer.alloc(32).toString("base64")),
    maxAttempts: 4,
    onEnqueued: () => undefined,
    logger,
    warn: () => undefined,
  });
  const accept = (campaignName: string, customFields = {}) =>
    intake.accept({
      test: true,
      webhookUrl: "https://example.com/hook",
      campaignName,
      customFields,
    });
  return { accept, intake, calls, looked, enqueued, unsure };
}

const statusOf = (
  result: Awaited<ReturnType<ReturnType<typeof setUp>["accept"]>>,
) => (result.ok ? 202 : result.refusal.status);

describe("taking in deliveries that arrive together", () => {
  test("stores them in one call and enqueues what was stored", async () => {
    const { accept, calls, enqueued } = setUp();
    const results = await Promise.all(
      ["a", "b", "c"].map((name) => accept(name)),
    );
    expect(results.map(statusOf)).toEqual([202, 202, 202]);
    expect(calls).toEqual([3]);
    expect(enqueued).toHaveLength(3);
  });

  test("blames a refused row alone", async () => {
    const { accept, enqueued } = setUp();
    const names = ["a", "b", "refuse", "c", "orphan", "d"];
    const results = await Promise.all(names.map((name) => accept(name)));
    expect(results.map(statusOf)).toEqual([202, 202, 422, 202, 404, 202]);
    expect(enqueued).toHaveLength(4);
  });

  test("lets what nobody expects be the answer of its request alone, which never rejects", async () => {
    const { accept, intake, enqueued } = setUp();
    const broken = { leadId: "broken", webhookUrl: "https://example.com/hook" };
    const results = await Promise.all([
      accept("a"),
      intake.accept(broken),
      accept("b"),
    ]);
    expect(results.map(statusOf)).toEqual([202, 500, 202]);
    expect(enqueued).toHaveLength(2);
  });

  test("looks up the keys of refused requests only, and all of them in one call", async () => {
    const { intake, looked } = setUp();
    const webhookUrl = "https://example.com/hook";
    const unknown = (idempotencyKey?: string) =>
      intake.accept({
        leadId: "x",
        webhookUrl,
        ...(idempotencyKey !== undefined && { idempotencyKey }),
      });
    const results = await Promise.all([
      unknown(),
      unknown("1"),
      unknown("2"),
      intake.accept({ test: true, webhookUrl, idempotencyKey: "3" }),
    ]);
    expect(results.map(statusOf)).toEqual([404, 404, 404, 202]);
    expect(looked).toEqual([2]);
  });

  test("says 503 only to those whose call found the database away", async () => {
    const { accept, calls, enqueued } = setUp();
    // Payloads too large for one call together: the first call stores, the second finds the database away.
    const large = { text: "x".repeat(250_000) };
    const names = [...Array.from({ length: 8 }, () => "a"), "away"];
    const results = await Promise.all(names.map((name) => accept(name, large)));
    expect(calls).toEqual([8, 1]);
    expect(results.map(statusOf)).toEqual([
      ...names.slice(1).map(() => 202),
      503,
    ]);
    expect(enqueued).toHaveLength(8);
  });
});
