import { errorMessage, hasCode } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import closeWithGrace from "close-with-grace";
import { createApp } from "./app.ts";
import { readConfig } from "./config.ts";

try {
  const config = readConfig(process.env);
  const logger = createLogger("ingest", config.logLevel);
  const app = await createApp(config, logger);
  closeWithGrace(
    { delay: config.shutdownGraceMs, logger },
    async ({ err, signal }) => {
      if (err) logger.fatal({ err }, "process.failed");
      logger.info(
        { signal },
        "[WEBHOOK_API] Stopping: finishing the requests under way...",
      );
      await app.stop();
      logger.info("[WEBHOOK_API] Stopped");
    },
  );
  await app.start();
} catch (error) {
  const isExpected = hasCode(error, "CONFIG_INVALID", "REDIS_UNAVAILABLE");
  console.error(isExpected ? error.message : error);
  if (!isExpected) console.error(errorMessage(error));
  process.exit(1);
}
