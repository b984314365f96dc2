import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { dataRoot, repositoryRoot } from "./paths.ts";
import { portOrFree } from "./ports.ts";
import { startReceiver } from "./receiver.ts";
import { isRedisInstalled } from "./redis-server.ts";
import { serviceEnvironment, startService, waitForHttp } from "./services.ts";
import { startStack } from "./start-stack.ts";

/** Runs everything on well-known ports until Ctrl-C, with readable logs and commands to try. Keeps no data. */
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
  const redis = await portOrFree(6379);
  const postgres = await portOrFree(54322);
  const gateway = await portOrFree(54321);
  const stack = await startStack({
    kind: isRedisInstalled() ? "processes" : "auto",
    onProgress: (line) => console.log(`· ${line}`),
    ports: { redis, postgres, gateway },
  });
  cleanUp.push(() => stack.stop());
  const receiver = await startReceiver({
    port: await portOrFree(4000),
    secret: receiverSecret,
    onRequest: ({ statusSent, path, webhookId, signature }) =>
      console.log(
        `[receiver] ${statusSent} ${path} webhook-id ${webhookId}, signature ${signature}`,
      ),
  });
  cleanUp.push(() => receiver.close());

  const ports = {
    ingest: await portOrFree(3000),
    dispatcher: await portOrFree(9101),
    "retry-scheduler": await portOrFree(9102),
  };
  const environment = await serviceEnvironment(stack, callerSettings());
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

  Send a delivery:
    curl ${ingestUrl}/api/webhook-delivery -H 'content-type: application/json' -d '{
      "test": true,
      "webhookUrl": "${receiver.url}/flaky?fail=2",
      "webhookSecret": "${receiverSecret}"
    }'
  Or without the API:
    redis-cli -p ${redis} XADD webhook:deliveries '*' \\
      webhook_url ${receiver.url}/ok payload '{"hello":"world"}'
  See what became of them:
    curl ${ingestUrl}/api/webhook-delivery
    curl ${ingestUrl}/api/webhook-delivery/stats
    curl ${receiver.url}/_requests
  Look into the queue:
    redis-cli -p ${redis} XINFO GROUPS webhook:deliveries
    redis-cli -p ${redis} ZRANGE '{webhook:deliveries}:retries' 0 -1 WITHSCORES
  Look into the tables:
    psql ${stack.postgresUrl}
  Read the API documentation: ${ingestUrl}/docs
  Other paths of the receiver ${receiver.url}:
    /ok /flaky?fail=n /500 /429?after=s /404 /410 /slow?ms=n /drip /redirect /big
`);
}

/** Settings given on the command line, as in `RATE_LIMIT_PER_SECOND=5 ./run dev`, reach the services. */
function callerSettings(): Record<string, string> {
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
  // Ends last, because the services' last lines go through it.
  cleanUp.unshift(async () => {
    pretty.stdin.end();
    await once(pretty, "exit");
  });
  return (name, line) => {
    if (line.startsWith("{")) pretty.stdin.write(`${line}\n`);
    else console.log(`[${name}] ${line}`);
  };
}
