// A request repeated under its key gets its first delivery, whatever has become of what it names.
import { randomUUID } from "node:crypto";
import { unwrap } from "@pipeline/shared/database";
import { expect, onTestFinished, test } from "vitest";
import {
  HOOK,
  type Ingest,
  sample,
  startIngest,
  startSupabaseProxy,
  type TestDatabase,
  useIngest,
} from "./ingest.ts";

let ingest: Ingest;
let database: TestDatabase;

useIngest((shared) => ({ ingest, database } = shared));

async function change(table: string, id: string, values: object) {
  await database.client.from(table).update(values).eq("id", id).throwOnError();
}
async function remove(table: string, id: string) {
  await database.client.from(table).delete().eq("id", id).throwOnError();
}

const queued = () => ingest.queue.redis.xlen(ingest.queue.keys.stream);

/** Sends a request, lets `meanwhile` happen, and sends it again, alone and in a batch, and another one under its key. */
async function repeat(request: object, meanwhile: () => Promise<void>) {
  const keyed = { ...request, idempotencyKey: randomUUID() };
  const first = await ingest.post("", keyed);
  expect(first.status).toBe(202);
  const before = await queued();
  await meanwhile();
  const again = await ingest.post("", keyed);
  const batch = await ingest.post("/batch", { deliveries: [sample(), keyed] });
  const other = await ingest.post("", { ...keyed, campaignName: "Another" });
  expect(await queued()).toBe(before + 1);
  return { first, again, batch, other };
}

/** Whether the repetitions got the first delivery, and the other request was told that its key is taken. */
function isFirst({
  first,
  again,
  batch,
  other,
}: Awaited<ReturnType<typeof repeat>>) {
  expect(again.body).toEqual(first.body);
  expect(batch.body.deliveries[1]).toEqual(first.body);
  expect(other.body.issues.map(({ path }) => path)).toEqual(["idempotencyKey"]);
  return again.status === 200 && other.status === 409;
}

test("after its endpoint was disabled by a 410, or by a person", async () => {
  const endpoint = await database.insert("webhook_endpoints", { url: HOOK });
  expect(
    isFirst(
      await repeat({ test: true, endpointId: endpoint.id }, () =>
        change("webhook_endpoints", endpoint.id, { active: false }),
      ),
    ),
  ).toBe(true);
});

test("after its endpoint was deleted, or given settings that cannot be used", async () => {
  for (const meanwhile of [
    (id: string) => remove("webhook_endpoints", id),
    (id: string) => change("webhook_endpoints", id, { headers: [] }),
    (id: string) => change("webhook_endpoints", id, { url: "nowhere" }),
  ]) {
    const { id } = await database.insert("webhook_endpoints", { url: HOOK });
    expect(
      isFirst(
        await repeat({ test: true, endpointId: id }, () => meanwhile(id)),
      ),
    ).toBe(true);
  }
});

test("after its lead was edited, also when the lead can no longer be sent", async () => {
  for (const values of [
    { email: null },
    { email: "new@example.com", first_name: "Renamed" },
    { created_at: "infinity" },
  ]) {
    const lead = await database.insertLead();
    expect(
      isFirst(
        await repeat(
          { leadId: lead.id, webhookUrl: HOOK, format: "convertkit" },
          () => change("leads", lead.id, values),
        ),
      ),
    ).toBe(true);
  }
});

test("after its lead was deleted with the delivery, of which only what the answer shows is kept", async () => {
  const lead = await database.insertLead({ email: "erased@example.com" });
  const { first, again, batch, other } = await repeat(
    { leadId: lead.id, webhookUrl: HOOK },
    () => remove("leads", lead.id),
  );
  const { id } = first.body.delivery;
  expect(await database.row(id)).toBeNull();
  expect(again.status).toBe(200);
  expect(again.body.delivery).toEqual({
    ...first.body.delivery,
    status: "cancelled",
  });
  expect(batch.body.deliveries[1]).toEqual(again.body);
  expect(other.status).toBe(409);
  const kept = await unwrap(
    database.client
      .from("webhook_idempotency_keys")
      .select("*")
      .eq("delivery_id", id),
  );
  expect(kept).toHaveLength(1);
  expect(JSON.stringify(kept)).not.toMatch(/erased|catch|abcdef/);
});

test("after its delivery was deleted, also when it names nothing that could be missing", async () => {
  const request = sample({ idempotencyKey: randomUUID() });
  const first = await ingest.post("", request);
  await database.record(first.body.delivery.id, 1, "success");
  await remove("webhook_deliveries", first.body.delivery.id);
  const before = await queued();
  const again = await ingest.post("", request);
  expect(again.status).toBe(200);
  expect(again.body.delivery).toEqual({
    ...first.body.delivery,
    status: "success",
  });
  expect(await queued()).toBe(before);
});

test("while the queue is full", async () => {
  const full = await startIngest({ env: { MAX_QUEUE_LENGTH: "1" } });
  onTestFinished(full.stop);
  const request = sample({ idempotencyKey: randomUUID() });
  const first = await full.post("", request);
  expect((await full.post("", sample())).status).toBe(503);
  const again = await full.post("", request);
  expect(again.status).toBe(200);
  expect(again.body).toEqual(first.body);
});

test("a new key under which nothing was made gets the refusal itself", async () => {
  const request = {
    leadId: randomUUID(),
    webhookUrl: HOOK,
    idempotencyKey: randomUUID(),
  };
  expect((await ingest.post("", request)).status).toBe(404);
  expect((await ingest.post("", request)).status).toBe(404);
  const batch = await ingest.post("/batch", {
    deliveries: [request, sample()],
  });
  expect(batch.body.deliveries.map(({ status }) => status)).toEqual([
    "error",
    "success",
  ]);
});

test("a key costs an accepted request no call of its own, and a refused batch one for all", async () => {
  const proxy = await startSupabaseProxy();
  onTestFinished(proxy.close);
  const counted = await startIngest({ supabaseUrl: proxy.url });
  onTestFinished(counted.stop);
  const { id } = await database.insert("webhook_endpoints", { url: HOOK });
  const request = () => ({
    test: true,
    endpointId: id,
    idempotencyKey: randomUUID(),
  });
  proxy.calls.length = 0;
  await counted.post("", request());
  expect(proxy.calls).toHaveLength(2);

  await change("webhook_endpoints", id, { active: false });
  proxy.calls.length = 0;
  const deliveries = Array.from({ length: 100 }, request);
  await counted.post("/batch", { deliveries });
  expect(proxy.calls).toHaveLength(2);
});

test("a batch refuses the header, and stores nothing", async () => {
  const before = await queued();
  const { status, body } = await ingest.post(
    "/batch",
    { deliveries: [sample()] },
    { "idempotency-key": randomUUID() },
  );
  expect(status).toBe(422);
  expect(body.issues).toEqual([
    {
      path: "Idempotency-Key",
      message: expect.stringContaining("idempotencyKey of its own"),
    },
  ]);
  expect(await queued()).toBe(before);
});
