import { mkdir, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, styleText } from "node:util";
import { Client } from "pg";
import { demoCases, receiverSecrets } from "./demo-cases.ts";
import {
  printReport,
  type DemoResult,
  type RecordedDelivery,
  type Timing,
} from "./demo-report.ts";
import { requestsOf, sendAll, type Sent } from "./demo-send.ts";
import { dataRoot } from "./paths.ts";
import { say, watchAttempts } from "./demo-watch.ts";
import { startReceiver, type Receiver } from "./receiver.ts";
import { isRedisInstalled } from "./redis-server.ts";
import { redisCommand } from "./redis-command.ts";
import {
  serviceEnvironment,
  startService,
  waitForHttp,
  type ServiceName,
} from "./services.ts";
import { startStack, type Stack } from "./stack.ts";

/** The whole pipeline on one screen: start it, send of every kind, watch, and compare what should happen with what did. */
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
  // After Ctrl-C everything fails; that is not worth a line.
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
  console.log(
    values["real-time"]
      ? `Retries come after ${timing.delaysSeconds.join(", ")} s, as in production. This takes about three minutes.`
      : `Retries come after ${timing.delaysSeconds.join(", ")} s here, so that you need not wait (in production 5, 25, 125 s: ./run demo --real-time).`,
  );
  console.log(
    `An attempt ends after ${timing.attemptTimeoutMs / 1000} s here (in production 30 s).\n`,
  );

  const stack = await startStack({
    // With a local Redis there is nothing to pull and it is up in a second.
    kind: isRedisInstalled() ? "processes" : "auto",
    onProgress: (line) => say("·", line),
  });
  cleanUp.push(() => stack.stop());
  const database = new Client({ connectionString: stack.postgresUrl });
  database.on("error", () => undefined); // it goes away before us on Ctrl-C
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
  await settle(database, sent);
  // The rows are there before the dispatcher has deleted their log entries and printed its last line.
  await within(5_000, async () => (await readQueue(stack)).isEmpty);
  await within(2_000, async () => watch.isComplete());

  const results: DemoResult[] = [];
  for (const item of sent) results.push(await collect(database, item));
  const agrees = printReport(results, timing);
  const queue = await readQueue(stack);
  console.log(`\nRedis in the end: ${queue.text}`);
  const isGood = agrees && queue.isEmpty;
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

/** One receiver for each secret, and one that knows none. */
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
    // From here on the report shows what a service that dies leaves undone.
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

/** Waits until every delivery is as far as it should get, or long enough that it never will. */
async function settle(database: Client, sent: Sent[]): Promise<void> {
  const total =
    timing.delaysSeconds.reduce((sum, seconds) => sum + seconds, 0) * 1000;
  const deadline = Date.now() + total + 4 * timing.attemptTimeoutMs + 20_000;
  while (Date.now() < deadline) {
    for (const item of sent) item.deliveryId ??= requestsOf(item)[0]?.webhookId;
    const { rows } = await database.query<{ id: string; attempts: number }>(
      `select d.id, (select count(*)::int from webhook_delivery_logs l where l.delivery_id = d.id) as attempts
       from webhook_deliveries d where d.status in ('success', 'failed', 'cancelled')`,
    );
    const attempts = new Map(rows.map((row) => [row.id, row.attempts]));
    if (
      sent.every(
        (item) =>
          (attempts.get(item.deliveryId ?? "") ?? 0) >=
          item.demoCase.expected.attempts,
      )
    )
      return;
    await sleep(100);
  }
}

async function collect(database: Client, item: Sent): Promise<DemoResult> {
  const { rows } = await database.query<RecordedDelivery>(
    `select d.status, d.attempt, l.status as "leadStatus", coalesce((
       select jsonb_agg(jsonb_build_object('number', a.attempt_number, 'status', a.response_status, 'errorType', a.error_type) order by a.attempt_number)
       from webhook_delivery_logs a where a.delivery_id = d.id), '[]') as attempts
     from webhook_deliveries d left join leads l on l.id = d.lead_id where d.id = $1`,
    [item.deliveryId],
  );
  return {
    demoCase: item.demoCase,
    recorded: rows[0],
    received: requestsOf(item),
    email: item.email,
  };
}

/** Waits until it is so, or as long as given: the report then says what is not. */
async function within(
  timeoutMs: number,
  isSo: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await isSo()) && Date.now() < deadline) await sleep(20);
}

async function readQueue(
  stack: Stack,
): Promise<{ text: string; isEmpty: boolean }> {
  const length = async (...command: string[]) =>
    Number(await redisCommand(stack.redisUrl, command));
  const [waiting, retries, unrecorded, dead] = await Promise.all([
    length("XLEN", "webhook:deliveries"),
    length("ZCARD", "{webhook:deliveries}:retries"),
    length("XLEN", "{webhook:deliveries}:log"),
    length("XLEN", "{webhook:deliveries}:dead"),
  ]);
  return {
    text: `${waiting} waiting or in flight, ${retries} due retries, ${unrecorded} unrecorded attempts, ${dead} dead letters`,
    isEmpty:
      waiting + retries + unrecorded === 0 &&
      dead ===
        demoCases.filter((demoCase) => demoCase.expected.status === "failed")
          .length,
  };
}
