import closeWithGrace from "close-with-grace";
import { errorMessage } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import { createApp } from "./app.ts";
import { readConfig } from "./config.ts";

try {
  const config = readConfig(process.env);
  const logger = createLogger("retry-scheduler", config.LOG_LEVEL);
  const app = createApp(config, logger);
  closeWithGrace(
    { delay: config.SHUTDOWN_GRACE_MS, logger: false },
    async ({ err }) => {
      if (err) logger.fatal({ err }, "process.crashed");
      await app.stop();
    },
  );
  await app.start();
} catch (error) {
  console.error(errorMessage(error));
  process.exit(1);
}
