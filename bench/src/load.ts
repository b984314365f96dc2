// Load on the API: concurrent single POSTs, batches, or a steady rate.
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { samplePayload } from "./payload.ts";

const dispatcher = new Agent({
  connections: 128,
  pipelining: 1,
  allowH2: false,
});

export interface Post {
  apiUrl: string;
  webhookUrl: string;
  index: number;
}

const bodyOf = ({ webhookUrl, index }: Pick<Post, "webhookUrl" | "index">) =>
  `{"webhookUrl":${JSON.stringify(webhookUrl)},"webhookSecret":"bench","payload":${samplePayload(index)}}`;

async function post(url: string, body: string): Promise<void> {
  const response = await request(url, {
    method: "POST",
    dispatcher,
    body,
    headers: { "content-type": "application/json" },
  });
  if (response.statusCode !== 202)
    throw new Error(`${response.statusCode} ${await response.body.text()}`);
  await response.body.dump();
}

export async function postOne(each: Post): Promise<void> {
  await post(`${each.apiUrl}/api/webhook-delivery`, bodyOf(each));
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
  await post(
    `${apiUrl}/api/webhook-delivery/batch`,
    `{"deliveries":[${deliveries.join(",")}]}`,
  );
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
