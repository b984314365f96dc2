// The whole pipeline with servers of its own: real processes that a test may kill, stop and starve.
import { randomUUID } from "node:crypto";
import type { ServiceName } from "@pipeline/dev-stack/services";
import type { Stack } from "@pipeline/dev-stack/stack";
import { startStack } from "@pipeline/dev-stack/start-stack";
import type { Fields } from "@pipeline/shared/queue/fields";
import { createHarness } from "./harness.ts";
import { startTallyReceiver } from "./tally-receiver.ts";

/** Everything that takes minutes in production takes seconds here. */
export const QUICK = {
  RETRY_DELAYS_SECONDS: "0.3,0.6,0.9",
  CLAIM_IDLE_MS: "2000",
  RECONCILE_INTERVAL_MS: "1000",
  RECONCILE_GRACE_MS: "3000",
  ATTEMPT_TIMEOUT_MS: "5000",
  SHUTDOWN_GRACE_MS: "6000",
  RATE_LIMIT_PER_SECOND: "0",
  DISPATCHER_CONCURRENCY: "20",
};

/** How many processes of each service to start with: 1 unless given. */
export interface PipelineOptions extends Partial<Record<ServiceName, number>> {
  env?: Record<string, string>;
  /** Where the services find Redis or Supabase, when that is not the server itself (a proxy). */
  through?: (stack: Stack) => Promise<Record<string, string>>;
  stack?: Parameters<typeof startStack>[0];
}

export type Pipeline = Awaited<ReturnType<typeof startPipeline>>;

/** Starts the servers and the receiver; the services are started by `startServices`, so that a test can prepare first. */
export async function startPipeline(options: PipelineOptions = {}) {
  const stack = await startStack(options.stack);
  const receiver = await startTallyReceiver();
  const harness = createHarness({
    servers: stack,
    streamKey: "webhook:deliveries",
    env: { ...QUICK, ...(await options.through?.(stack)), ...options.env },
    readyPath: "/healthz", // Redis or Supabase may be away
  });
  const {
    ingest = 1,
    dispatcher = 1,
    "retry-scheduler": scheduler = 1,
  } = options;

  return {
    ...harness,
    stack,
    receiver,
    /** One delivery through the API; resolves to its id. */
    submit: async (path: string, more: object = {}): Promise<string> => {
      const { status, body } = await harness.post("", {
        payload: { n: randomUUID() },
        webhookUrl: receiver.url + path,
        ...more,
      });
      if (status !== 202)
        throw new Error(`ingest answered ${status}: ${JSON.stringify(body)}`);
      return body.delivery.id;
    },
    /** One delivery straight into the stream; resolves to its id. */
    xadd: (path: string, more: Fields = {}): Promise<string> => {
      const id = randomUUID();
      return harness.add({
        id,
        webhook_url: receiver.url + path,
        payload: JSON.stringify({ n: id }),
        ...more,
      });
    },
    /** Lines of level warn and above, from all processes. */
    problems: () =>
      harness.services.flatMap(({ name, lines }) =>
        lines.flatMap((line) => {
          const isProblem =
            /^\{"level":"(warn|error|fatal)"/.test(line) || line[0] !== "{";
          return isProblem ? [`${name} ${line}`] : [];
        }),
      ),
    startServices: () =>
      harness.startEach({ ingest, dispatcher, "retry-scheduler": scheduler }),
    stop: async () => {
      await harness.release();
      await receiver.close();
      await stack.stop();
    },
  };
}
