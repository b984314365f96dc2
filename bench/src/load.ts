// Load on the API: single POSTs and batches, as fast as possible or at a steady rate.
import { setTimeout as sleep } from "node:timers/promises";
import { createLightClient, type LightClient } from "./light-client.ts";
import { samplePayload } from "./payload.ts";

const CONNECTIONS = 128;
const ACCEPTED = 202;
const clients = new Map<string, LightClient>();

function clientOf(apiUrl: string): LightClient {
  let client = clients.get(apiUrl);
  if (client === undefined) {
    client = createLightClient(apiUrl, CONNECTIONS);
    clients.set(apiUrl, client);
  }
  return client;
}

export interface Target {
  apiUrl: string;
  webhookUrl: string;
}

const deliveryBody = (webhookUrl: string, index: number) =>
  `{"webhookUrl":${JSON.stringify(webhookUrl)},"webhookSecret":"bench","payload":${samplePayload(index)}}`;

export async function postOne(
  { apiUrl, webhookUrl }: Target,
  index: number,
): Promise<void> {
  const body = deliveryBody(webhookUrl, index);
  await clientOf(apiUrl).post("/api/webhook-delivery", body, ACCEPTED);
}

export async function postBatch(
  { apiUrl, webhookUrl }: Target,
  from: number,
  count: number,
): Promise<void> {
  const deliveries = Array.from({ length: count }, (_, i) =>
    deliveryBody(webhookUrl, from + i),
  );
  const body = `{"deliveries":[${deliveries.join(",")}]}`;
  await clientOf(apiUrl).post("/api/webhook-delivery/batch", body, ACCEPTED);
}

/** Runs `concurrent` loops of `send`, which resolves to a count, for `seconds`. Resolves to the counts per second. */
export async function saturate(
  concurrent: number,
  seconds: number,
  send: (index: number) => Promise<number>,
): Promise<number> {
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1000;
  let index = 0;
  let sent = 0;
  const work = async () => {
    while (performance.now() < endsAt) {
      const count = await send(index++);
      sent += count; // not in one line: `sent` would be read before the await
    }
  };
  await Promise.all(Array.from({ length: concurrent }, work));
  return sent / ((performance.now() - startedAt) / 1000);
}

/** Calls `send` at a steady rate, however long each call takes. Resolves when all calls have. */
export async function steadily(
  ratePerSecond: number,
  seconds: number,
  send: (index: number) => Promise<void>,
): Promise<void> {
  const startedAt = performance.now();
  const pending: Promise<void>[] = [];
  for (let index = 0; index < ratePerSecond * seconds; index++) {
    const dueAt = startedAt + (index * 1000) / ratePerSecond;
    const waitMs = dueAt - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    pending.push(send(index));
  }
  await Promise.all(pending);
}
