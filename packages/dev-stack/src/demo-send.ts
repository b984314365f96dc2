import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import type { Client } from "pg";
import { demoCases, titleWidth, type DemoCase } from "./demo-cases.ts";
import { say } from "./demo-say.ts";
import type { ReceivedRequest, Receiver } from "./receiver.ts";
import { redisCommand } from "./redis-command.ts";

export interface Sent {
  demoCase: DemoCase;
  /** Undefined when the target is not one of our receivers. */
  receiver: Receiver | undefined;
  path: string;
  /** Of the lead, if there is one. */
  email: string | undefined;
  /** After an XADD without id it is known only once the receiver has seen the webhook-id. */
  deliveryId: string | undefined;
}

/** The requests that the receiver has had of this delivery. */
export function requestsOf(sent: Sent): ReceivedRequest[] {
  return (
    sent.receiver?.requests.filter((request) => request.path === sent.path) ??
    []
  );
}

export async function sendAll(context: {
  redisUrl: string;
  database: Client;
  /** By the secret with which they check signatures. */
  receivers: Map<string | undefined, Receiver>;
  ingestUrl: string;
}): Promise<Sent[]> {
  const { database } = context;
  const campaignId = await insertCampaign(database);
  say("·", "a client and its campaign are in the database");
  console.log();
  const sent: Sent[] = [];
  for (const [index, demoCase] of demoCases.entries()) {
    const receiver = demoCase.target.startsWith("/")
      ? context.receivers.get(demoCase.secret)
      : undefined;
    const path = `${demoCase.target}${demoCase.target.includes("?") ? "&" : "?"}case=${index}`;
    const webhookUrl =
      receiver === undefined ? demoCase.target : receiver.url + path;
    const item: Sent = {
      demoCase,
      receiver,
      path,
      email: undefined,
      deliveryId: undefined,
    };
    sent.push(item);
    const title = demoCase.title.padEnd(titleWidth);
    if (demoCase.via === "xadd") {
      const secret = demoCase.secret ?? "";
      const lines = await addEntry(context.redisUrl, webhookUrl, secret);
      const indent = " ".repeat(titleWidth + 4);
      say("▶", `${title}  ${lines.join(` \\\n${indent}`)}`);
      continue;
    }
    const lead =
      demoCase.via === "lead"
        ? await insertLead(database, campaignId, index)
        : undefined;
    item.email = lead?.email;
    item.deliveryId = await post(context.ingestUrl, {
      webhookUrl,
      ...(lead !== undefined && { leadId: lead.id }),
      ...(demoCase.via === "test" && { test: true }),
      ...(demoCase.via === "payload" && {
        payload: { hello: "wörld", case: index },
      }),
      ...(demoCase.format !== undefined && { format: demoCase.format }),
      ...(demoCase.secret !== undefined && { webhookSecret: demoCase.secret }),
    });
    const shownTarget =
      receiver === undefined ? new URL(webhookUrl).host : demoCase.target;
    say("▶", `${title}  POST /api/webhook-delivery → 202, to ${shownTarget}`);
  }
  return sent;
}

/** Returns the command in lines, to be shown. */
async function addEntry(
  redisUrl: string,
  webhookUrl: string,
  secret: string,
): Promise<string[]> {
  const payload = '{"hello":"redis-cli"}';
  const command = ["XADD", "webhook:deliveries", "*"];
  command.push("webhook_url", webhookUrl, "secret", secret, "payload", payload);
  let sentWith = "redis-cli";
  try {
    await promisify(execFile)("redis-cli", ["-u", redisUrl, ...command]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    await redisCommand(redisUrl, command);
    sentWith = "(without redis-cli, which is not installed)";
  }
  return [
    `${sentWith} XADD webhook:deliveries '*'`,
    `webhook_url ${webhookUrl}`,
    `secret … payload '${payload}'`,
  ];
}

async function post(ingestUrl: string, body: object): Promise<string> {
  const response = await fetch(`${ingestUrl}/api/webhook-delivery`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (response.status !== 202)
    throw new Error(
      `POST /api/webhook-delivery answered ${response.status}: ${text}`,
    );
  return (JSON.parse(text) as { delivery: { id: string } }).delivery.id;
}

async function insertCampaign(database: Client): Promise<string> {
  const { rows } = await database.query<{ id: string }>(`
    with client as (
      insert into clients (name) values ('Analytical Engines Ltd') returning id
    ), magnet as (
      insert into lead_magnets (client_id, name)
      select id, 'Notes on the Engine' from client returning id, client_id
    )
    insert into campaigns (client_id, name, lead_magnet_id)
    select client_id, 'Spring campaign', id from magnet returning id`);
  const id = rows[0]?.id;
  if (id === undefined) throw new Error("could not insert a campaign");
  return id;
}

async function insertLead(
  database: Client,
  campaignId: string,
  index: number,
): Promise<{ id: string; email: string }> {
  const lead = { id: randomUUID(), email: `ada+${index}@example.com` };
  await database.query(
    `insert into leads (id, campaign_id, email, first_name, last_name, linkedin_id, linkedin_url,
       company, title, source, status, custom_fields)
     values ($1, $2, $3, 'Ada', 'Lovelace', 'ada', 'https://www.linkedin.com/in/ada',
       'Analytical Engines', 'Countess', 'linkedin', 'email_captured', '{"budget":"1842"}')`,
    [lead.id, campaignId, lead.email],
  );
  return lead;
}
