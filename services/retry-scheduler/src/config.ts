import { z } from "zod";
import {
  commonVariables,
  integer,
  queueVariable,
  readEnvironment,
} from "@pipeline/shared/config";

export const configSchema = z.object({
  ...commonVariables,
  ...queueVariable,
  METRICS_PORT: integer(0, 65_535).default(9102),
  RECONCILE_INTERVAL_MS: integer(100, 86_400_000).default(60_000),
  /** How long a delivery may be overdue before Redis is asked whether it still holds it. */
  RECONCILE_GRACE_MS: integer(0, 86_400_000).default(300_000),
  CLEAN_UP_INTERVAL_MS: integer(100, 86_400_000).default(60_000),
  DEAD_RETENTION_DAYS: integer(1, 3650).default(30),
});

export type Config = z.output<typeof configSchema>;

/** Throws CONFIG_INVALID. */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  return readEnvironment(configSchema, env);
}
