// Load on the API: concurrent single POSTs, batches, or a steady rate.
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

export interface Post {
  apiUrl: string;
  webhookUrl: string;
  index: number;
}

const bodyOf = ({ webhookUrl, index }: Pick<Post, "webhookUrl" | "index">) =>
  `{"webhookUrl":${JSON.stringify(webhookUrl)},"webhookSecret":"bench","payload":${samplePayload(index)}}`;

export async function postOne(each: Post): Promise<void> {
  const client = clientOf(each.apiUrl);
  await client.post("/api/webhook-delivery", bodyOf(each), ACCEPTED);
}

export async function postBatch(
  apiUrl: string,
  webhookUrl: string,
  from: number,
  count: number,
): Promise<void> {
  const deliveries = Array.from({ length: count }, (_, i) =>
    bodyOf({ webhookUrl, index: from + i }),
  );
  const body = `{"deliveries":[${deliveries.join(",")}]}`;
  await clientOf(apiUrl).post("/api/webhook-delivery/batch", body, ACCEPTED);
}

/** Runs `concurrent` loops of `send` for `seconds`; resolves to what was sent per second. */
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
      sent += count;
    }
  };
  await Promise.all(Array.from({ length: concurrent }, work));
  return sent / ((performance.now() - startedAt) / 1000);
}

/** Calls `send` at a steady rate, whatever the answers take; resolves when all have ended. */
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
