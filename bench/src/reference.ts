// Measures R: how many signed POSTs per second one Node process sends to the receiver while nothing else is running.
// Arguments: URL, seconds. Prints the rate.
import { createHmac, randomUUID } from "node:crypto";
import { Agent, request } from "undici";
import { samplePayload } from "./payload.ts";

const CONNECTIONS = 64;
const [url, seconds] = process.argv.slice(2) as [string, string];
const agent = new Agent({
  connections: CONNECTIONS,
  pipelining: 1,
  allowH2: false,
});
const startedAt = performance.now();
const endsAt = startedAt + Number(seconds) * 1000;
let sent = 0;

async function send(): Promise<void> {
  while (performance.now() < endsAt) {
    const id = randomUUID();
    const body = samplePayload(sent);
    const timestamp = Math.floor(Date.now() / 1000);
    const signature = createHmac("sha256", "bench")
      .update(`${id}.${timestamp}.${body}`)
      .digest("base64");
    const response = await request(url, {
      method: "POST",
      dispatcher: agent,
      body,
      signal: AbortSignal.timeout(30_000),
      headers: {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": String(timestamp),
        "webhook-signature": `v1,${signature}`,
      },
    });
    await response.body.dump();
    sent++;
  }
}

await Promise.all(Array.from({ length: CONNECTIONS }, send));
console.log(sent / ((performance.now() - startedAt) / 1000));
await agent.close();
