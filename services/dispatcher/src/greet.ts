// What a dispatcher says of itself when it has started.
import type { Logger } from "@pipeline/shared/logger";
import { describeRedisUrl } from "@pipeline/shared/redis";
import type { Config } from "./config.ts";

export interface GreetOptions {
  config: Config;
  consumer: string;
  port: number;
  logger: Logger;
}

export function greet({ config, consumer, port, logger }: GreetOptions): void {
  const { concurrency, ratePerSecond, attemptTimeoutMs } = config;
  const rate =
    ratePerSecond === 0
      ? "off"
      : `${ratePerSecond} deliveries/second over all dispatchers`;
  for (const line of [
    "Worker started successfully",
    `Redis: ${describeRedisUrl(config.redisUrl)}`,
    `Supabase: ${new URL(config.supabaseUrl).origin}`,
    `Processing stream: ${config.streamKey} as consumer ${consumer}`,
    `Concurrency: ${concurrency} deliveries at once`,
    `Rate limit: ${rate}`,
    `Attempt timeout: ${attemptTimeoutMs} ms; retries after ${config.retrySchedule.join(", ")} seconds`,
    `Health and metrics: http://localhost:${port}/healthz, /readyz, /metrics`,
    "Listening for deliveries...",
  ]) {
    logger.info(`[WEBHOOK_WORKER] ${line}`);
  }
  if (config.allowedNetworks.length > 0) {
    logger.warn(
      "[WEBHOOK_WORKER] ALLOW_PRIVATE_NETWORKS is set: deliveries may go to private addresses",
    );
  }
}
