import { mkdir, rm } from "node:fs/promises";
import { parseArgs, styleText } from "node:util";
import { Client } from "pg";
import { receiverSecrets } from "./demo-cases.ts";
import { collectResult, readQueue, untilRecorded } from "./demo-outcome.ts";
import { printReport, type DemoResult, type Timing } from "./demo-report.ts";
import { say } from "./demo-say.ts";
import { sendAll } from "./demo-send.ts";
import { watchAttempts } from "./demo-watch.ts";
import { dataRoot } from "./paths.ts";
import { startReceiver, type Receiver } from "./receiver.ts";
import { isRedisInstalled } from "./redis-server.ts";
import {
  serviceEnvironment,
  startService,
  waitForHttp,
  type ServiceName,
} from "./services.ts";
import type { Stack } from "./stack.ts";
import { startStack } from "./start-stack.ts";
import { waitUntil } from "./wait-until.ts";

/** Starts the pipeline, sends webhooks of every kind, and compares what should happen to them with what did. */
const { values } = parseArgs({
  options: { "real-time": { type: "boolean", default: false } },
});
const timing: Timing = {
  delaysSeconds: values["real-time"] ? [5, 25, 125] : [1, 2, 3],
  attemptTimeoutMs: 1_500,
};
const logFolder = `${dataRoot}/demo`;
const cleanUp: (() => Promise<unknown>)[] = [];
let isStopping = false;

async function stopAll(): Promise<void> {
  isStopping = true;
  for (const step of cleanUp.splice(0).toReversed()) await step();
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    say("■", "stopping");
    void stopAll().finally(() => process.exit(130));
  });
}

try {
  const isGood = await demo();
  await stopAll();
  process.exitCode = isGood ? 0 : 1;
} catch (error) {
  // After Ctrl-C everything fails, which need not be reported.
  if (!isStopping) {
    console.error(
      `\nThe demo could not finish: ${(error as Error).message}\nLogs: ${logFolder}/*.log`,
    );
    await stopAll();
    process.exitCode = 1;
  }
}

async function demo(): Promise<boolean> {
  await rm(logFolder, { recursive: true, force: true });
  await mkdir(logFolder, { recursive: true });
  const delays = timing.delaysSeconds.join(", ");
  console.log(
    values["real-time"]
      ? `Retries come after ${delays} s, as in production. This takes about three minutes.`
      : `Retries come after ${delays} s here (in production after 5, 25, 125 s: ./run demo --real-time).`,
  );
  console.log(
    `An attempt times out after ${timing.attemptTimeoutMs / 1000} s here (in production after 30 s).\n`,
  );

  const stack = await startStack({
    // Local processes start in a second and need no images.
    kind: isRedisInstalled() ? "processes" : "auto",
    onProgress: (line) => say("·", line),
  });
  cleanUp.push(() => stack.stop());
  const database = new Client({ connectionString: stack.postgresUrl });
  database.on("error", () => undefined); // on Ctrl-C Postgres may end first
  await database.connect();
  cleanUp.push(() => database.end());

  const receivers = await startReceivers();
  const watch = watchAttempts();
  const ingestUrl = await startServices(stack, watch.onLine);
  const sent = await sendAll({
    redisUrl: stack.redisUrl,
    database,
    receivers,
    ingestUrl,
  });
  watch.show(sent);
  await orTimeout(untilRecorded(database, sent, timing));
  // The rows are there a moment before the dispatcher deletes their log entries and prints its last line.
  const isQueueAsExpected = async () =>
    (await readQueue(stack.redisUrl)).isAsExpected;
  await orTimeout(waitUntil("the queue is empty", 5_000, isQueueAsExpected));
  await orTimeout(waitUntil("all is shown", 2_000, watch.isComplete));

  const results: DemoResult[] = [];
  for (const item of sent) results.push(await collectResult(database, item));
  const areDeliveriesGood = printReport(results, timing);
  const queue = await readQueue(stack.redisUrl);
  console.log(`Redis at the end: ${queue.text}`);
  const isGood = areDeliveriesGood && queue.isAsExpected;
  console.log(
    isGood
      ? styleText("green", "\nEverything happened as it should.")
      : styleText(
          "red",
          `\nNot everything happened as it should. Logs: ${logFolder}/*.log`,
        ),
  );
  return isGood;
}

/** After a timeout the demo goes on: the report shows what is missing. */
async function orTimeout(wait: Promise<void>): Promise<void> {
  await wait.catch(() => undefined);
}

/** One receiver for each secret, and one without a secret. */
async function startReceivers(): Promise<Map<string | undefined, Receiver>> {
  const receivers = new Map<string | undefined, Receiver>();
  for (const secret of [
    receiverSecrets.plain,
    receiverSecrets.standard,
    undefined,
  ]) {
    const receiver = await startReceiver(
      secret === undefined ? {} : { secret },
    );
    cleanUp.push(() => receiver.close());
    receivers.set(secret, receiver);
  }
  say(
    "·",
    `receivers on ${[...receivers.values()].map((receiver) => receiver.url).join(", ")}`,
  );
  return receivers;
}

async function startServices(
  stack: Stack,
  onLine: (line: string) => void,
): Promise<string> {
  const settings = {
    RETRY_DELAYS_SECONDS: timing.delaysSeconds.join(","),
    ATTEMPT_TIMEOUT_MS: String(timing.attemptTimeoutMs),
  };
  const start = async (name: ServiceName) => {
    const env = await serviceEnvironment(stack, settings);
    const service = startService(name, env, {
      logFile: `${logFolder}/${name}.log`,
      onLine,
    });
    cleanUp.push(() => service.stop());
    const url = `http://127.0.0.1:${name === "ingest" ? env["PORT"] : env["METRICS_PORT"]}`;
    const died = service.exited.then((code) => {
      const lastLines = service.lines.slice(-3).join("\n");
      throw new Error(`${name} ended with code ${code}:\n${lastLines}`);
    });
    await Promise.race([waitForHttp(`${url}/readyz`, 30_000), died]);
    // If a service dies later, the report shows what it has left undone.
    died.catch((error: Error) => isStopping || say("✗", error.message));
    say("·", `${name} (pid ${service.pid}) is ready`);
    return url;
  };
  const [ingestUrl] = await Promise.all([
    start("ingest"),
    start("dispatcher"),
    start("retry-scheduler"),
  ]);
  return ingestUrl;
}
