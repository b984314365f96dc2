// Brings docker-compose.yml up as a project of its own, delivers through it, scales it, stops it under load, takes it down.
// Exits with 1 when anything is not as it should be. COMPOSE="docker-compose" for the old command. Images are those of the
// environment, see docker-compose.yml.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { freePort } from "@pipeline/dev-stack/ports";
import { repositoryRoot } from "@pipeline/dev-stack/paths";
import { until } from "../support/until.ts";

const [command = "docker", ...leading] = (
  process.env["COMPOSE"] ?? "docker compose"
).split(" ");
const isOld = command === "docker-compose";
const port = await freePort();
const apiKey = "smoke-test-key";
const replicas = { dispatcher: 3, "retry-scheduler": 2 };
const services = ["ingest", "dispatcher", "retry-scheduler"];

interface Delivery {
  id: string;
  status: string;
  attempt: number;
  lastError: string | null;
}

async function run(program: string, parameters: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, parameters, {
    cwd: repositoryRoot,
    env: {
      ...process.env,
      INGEST_PORT: String(port),
      INGEST_API_KEYS: apiKey,
      COMPOSE_IGNORE_ORPHANS: "true",
    },
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout.trim();
}

function compose(...parameters: string[]): Promise<string> {
  const project = ["--project-name", "webhook-smoke"];
  return run(command, [...leading, ...project, ...parameters]);
}

async function containers(service: string): Promise<string[]> {
  const ids = await compose(
    "ps",
    "--quiet",
    ...(isOld ? [] : ["--all"]),
    service,
  );
  return ids.split("\n").filter((id) => id !== "");
}

/** One field of every container of the service, as a Go template. */
async function inspect(service: string, template: string): Promise<string[]> {
  const ids = await containers(service);
  const text = await run("docker", ["inspect", "--format", template, ...ids]);
  return text.split("\n");
}

async function up(): Promise<void> {
  const scale = Object.entries(replicas).flatMap(([name, count]) => [
    "--scale",
    `${name}=${count}`,
  ]);
  // The services alone must start first, so that --wait is also tried on a file without replicas.
  for (const more of [[], scale]) {
    await compose("up", isOld ? "--detach" : "--wait", ...more);
    for (const service of [...services, "receiver"]) {
      await until(
        `every ${service} is healthy`,
        async () => {
          const states = await inspect(service, "{{.State.Health.Status}}");
          const wanted =
            more.length === 0
              ? 1
              : (new Map(Object.entries(replicas)).get(service) ?? 1);
          return (
            states.length === wanted &&
            states.every((state) => state === "healthy")
          );
        },
        120_000,
      );
    }
    say(
      more.length === 0
        ? "up and healthy"
        : `scaled: ${JSON.stringify(replicas)}`,
    );
  }
}

async function api<Reply>(path: string, body?: object): Promise<Reply> {
  const response = await fetch(
    `http://127.0.0.1:${port}/api/webhook-delivery${path}`,
    {
      method: body === undefined ? "GET" : "POST",
      signal: AbortSignal.timeout(15_000),
      headers: {
        authorization: `Bearer ${apiKey}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    },
  );
  if (!response.ok)
    throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Reply;
}

async function send(webhookUrl: string): Promise<string> {
  const { delivery } = await api<{ delivery: Delivery }>("", {
    webhookUrl,
    webhookSecret: "development-only-secret",
    payload: { hello: "world" },
  });
  return delivery.id;
}

/** Waits for the end of a delivery and compares it with `wanted`, like "success after 2 attempts". */
async function expectOutcome(id: string, wanted: RegExp): Promise<void> {
  const delivery = await until(
    `an end of delivery ${id}`,
    async () => {
      const { deliveries } = await api<{ deliveries: Delivery[] }>(
        `?deliveryId=${id}`,
      );
      return deliveries.find(
        ({ status }) => status === "success" || status === "failed",
      );
    },
    60_000,
  );
  const outcome = `${delivery.status} after attempt ${delivery.attempt}: ${delivery.lastError ?? "no error"}`;
  if (!wanted.test(outcome))
    throw new Error(
      `delivery ${id} ended as "${outcome}", not ${String(wanted)}`,
    );
}

async function deliver(): Promise<void> {
  // The receiver answers 401 to a signature that does not verify, so a success is a valid one.
  const wanted = {
    "http://receiver:4000/ok": /^success after attempt 1/,
    "http://receiver:4000/flaky?fail=1": /^success after attempt 2/,
    "http://receiver:4000/404": /^failed after attempt 1: .*404/,
    // On the same network, but not an address that was allowed.
    "http://redis:6379/": /^failed after attempt 1: .*not allowed/,
  };
  for (const [url, outcome] of Object.entries(wanted))
    await expectOutcome(await send(url), outcome);
  say(`${Object.keys(wanted).length} deliveries ended as they should`);

  await compose(
    "exec",
    "-T",
    "redis",
    "redis-cli",
    "XADD",
    "webhook:deliveries",
    "*",
    "webhook_url",
    "http://receiver:4000/ok",
    "payload",
    '{"from":"redis-cli"}',
  );
  await until("the delivery of redis-cli in Postgres", async () => {
    const { deliveries } = await api<{ deliveries: Delivery[] }>(
      "?status=success",
    );
    return deliveries.length === 3;
  });
  say("the one of redis-cli as well");
}

async function shareTheWork(): Promise<void> {
  const ids = await Promise.all(
    Array.from({ length: 60 }, () => send("http://receiver:4000/slow?ms=300")),
  );
  for (const id of ids) await expectOutcome(id, /^success after attempt 1/);
  for (const id of await containers("dispatcher")) {
    const log = await run("docker", ["logs", id]);
    const attempts = log
      .split("\n")
      .filter((line) => line.includes('"delivery.attempted"')).length;
    if (attempts === 0)
      throw new Error(`dispatcher ${id} had no share of 60 deliveries`);
    say(`dispatcher ${id.slice(0, 12)}: ${attempts} attempts`);
  }
}

async function stopUnderLoad(): Promise<void> {
  const ids = await Promise.all(
    Array.from({ length: 6 }, () => send("http://receiver:4000/slow?ms=5000")),
  );
  await until("all six under way", async () => {
    const pending = await compose(
      "exec",
      "-T",
      "redis",
      "redis-cli",
      "XPENDING",
      "webhook:deliveries",
      "dispatchers",
    );
    return pending.startsWith("6");
  });
  await compose("stop", ...services);
  for (const service of services) {
    const codes = await inspect(service, "{{.State.ExitCode}}");
    if (codes.some((code) => code !== "0"))
      throw new Error(`${service} exited with ${codes.join(", ")}`);
  }
  await compose("start", ...services);
  await until(
    "ingest again",
    async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok,
    60_000,
  );
  for (const id of ids) await expectOutcome(id, /^success after attempt 1/);
  say(
    "stopped with six under way: exit code 0 everywhere, all six delivered at the first attempt",
  );
}

async function checkUsers(): Promise<void> {
  for (const service of [...services, "gateway", "receiver"]) {
    const uid = await compose(
      "exec",
      "-T",
      service,
      "node",
      "-p",
      "process.getuid()",
    );
    if (uid === "0") throw new Error(`${service} runs as root`);
  }
  say("nothing of ours runs as root");
}

function say(line: string): void {
  console.log(`compose: ${line}`);
}

try {
  await compose("down", "--volumes");
  await compose("build");
  say("images built");
  await up();
  await checkUsers();
  await deliver();
  await shareTheWork();
  await stopUnderLoad();
} catch (error) {
  console.error(await compose("ps").catch(String));
  console.error(
    await compose("logs", "--no-color", "--tail", "40").catch(String),
  );
  console.error(error);
  process.exitCode = 1;
} finally {
  await compose("down", "--volumes", "--timeout", "5");
}
