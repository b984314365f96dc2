import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { mkdir } from "node:fs/promises";
import { dataRoot, repositoryRoot } from "./paths.ts";
import { freePort } from "./ports.ts";
import { startReceiver } from "./receiver.ts";
import { serviceEnvironment, startService, waitForHttp } from "./services.ts";
import { isRedisInstalled } from "./redis-server.ts";
import { startStack } from "./stack.ts";

/** Everything on well-known ports until Ctrl-C, with readable logs and lines to try. Starts empty every time. */
const folder = `${dataRoot}/dev`;
const receiverSecret = "a secret in plain words";
const cleanUp: (() => Promise<unknown>)[] = [];
let isStopping = false;

async function stopAll(code: number): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  for (const step of cleanUp.splice(0).toReversed()) await step();
  process.exit(code);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    console.log("\nstopping");
    void stopAll(0);
  });
}

try {
  await dev();
} catch (error) {
  console.error((error as Error).message);
  await stopAll(1);
}

async function dev(): Promise<void> {
  await mkdir(folder, { recursive: true });
  const redis = await portNear(6379);
  const postgres = await portNear(54322);
  const gateway = await portNear(54321);
  const stack = await startStack({
    kind: isRedisInstalled() ? "processes" : "auto",
    onProgress: (line) => console.log(`· ${line}`),
    ports: { redis, postgres, gateway },
  });
  cleanUp.push(() => stack.stop());
  const receiver = await startReceiver({
    port: await portNear(4000),
    secret: receiverSecret,
    onRequest: ({ statusSent, path, webhookId, signature }) =>
      console.log(
        `[receiver] answered ${statusSent} to ${path}, webhook-id ${webhookId}, signature ${signature}`,
      ),
  });
  cleanUp.push(() => receiver.close());

  const ports = {
    ingest: await portNear(3000),
    dispatcher: await portNear(9101),
    "retry-scheduler": await portNear(9102),
  };
  const environment = await serviceEnvironment(stack, {
    ...settingsOfTheCaller(),
  });
  const pretty = prettyPrinter();
  const services = (["ingest", "dispatcher", "retry-scheduler"] as const).map(
    (name) => {
      const port = String(ports[name]);
      return startService(
        name,
        { ...environment, PORT: port, METRICS_PORT: port },
        {
          logFile: `${folder}/${name}.log`,
          onLine: (line) => pretty(name, line),
        },
      );
    },
  );
  cleanUp.push(() => Promise.all(services.map((service) => service.stop())));
  for (const service of services) {
    void service.exited.then((code) => {
      if (isStopping) return undefined;
      console.error(`${service.name} ended with code ${code}`);
      return stopAll(1);
    });
  }
  await Promise.all(
    Object.values(ports).map((port) =>
      waitForHttp(`http://127.0.0.1:${port}/readyz`, 30_000),
    ),
  );

  const ingestUrl = `http://127.0.0.1:${ports.ingest}`;
  console.log(`
Ready. Logs: ${folder}/*.log. Ctrl-C stops everything.

  Send one:
    curl ${ingestUrl}/api/webhook-delivery -H 'content-type: application/json' \\
      -d '{"test":true,"webhookUrl":"${receiver.url}/flaky?fail=2","webhookSecret":"${receiverSecret}"}'
  Or without the API:
    redis-cli -p ${redis} XADD webhook:deliveries '*' webhook_url ${receiver.url}/ok payload '{"hello":"world"}'
  What became of them:
    curl ${ingestUrl}/api/webhook-delivery
    curl ${ingestUrl}/api/webhook-delivery/stats
    curl ${receiver.url}/_requests
  The queue:
    redis-cli -p ${redis} XINFO GROUPS webhook:deliveries
    redis-cli -p ${redis} ZRANGE '{webhook:deliveries}:retries' 0 -1 WITHSCORES
  Tables (psql): ${stack.postgresUrl}
  API documentation: ${ingestUrl}/docs
  Receiver modes: ${receiver.url}/ok /flaky?fail=n /500 /429?after=s /404 /410 /slow?ms=n /drip /redirect /big
`);
}

/** Settings given on the command line, as in `RATE_LIMIT_PER_SECOND=5 ./run dev`, reach the services. */
function settingsOfTheCaller(): Record<string, string> {
  const names = [
    "RETRY_DELAYS_SECONDS",
    "RETRY_JITTER",
    "RATE_LIMIT_PER_SECOND",
    "DISPATCHER_CONCURRENCY",
    "ATTEMPT_TIMEOUT_MS",
    "INGEST_API_KEYS",
    "LOG_LEVEL",
  ];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** The port itself, or a free one when somebody has it. */
async function portNear(port: number): Promise<number> {
  const isFree = await new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
  return isFree ? port : freePort();
}

function prettyPrinter(): (name: string, line: string) => void {
  const pretty = spawn(
    `${repositoryRoot}node_modules/.bin/pino-pretty`,
    [
      "--ignore",
      "service",
      "--translateTime",
      "SYS:HH:MM:ss.l",
      "--singleLine",
      "--messageFormat",
      "[{service}] {msg}",
    ],
    { stdio: ["pipe", "inherit", "inherit"], detached: true },
  );
  // Last of all: the services' last lines go through it.
  cleanUp.unshift(async () => {
    pretty.stdin.end();
    await once(pretty, "exit");
  });
  return (name, line) => {
    if (line.startsWith("{")) pretty.stdin.write(`${line}\n`);
    else console.log(`[${name}] ${line}`);
  };
}
