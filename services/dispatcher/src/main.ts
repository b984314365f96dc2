import { errorMessage } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import closeWithGrace from "close-with-grace";
import { createApp } from "./app.ts";
import { readConfig } from "./config.ts";

/** The app itself keeps to the grace; this is for one that hangs. */
const HANGING_MS = 5000;

try {
  const config = readConfig(process.env);
  const logger = createLogger("dispatcher", config.logLevel);
  const app = createApp(config, logger);
  closeWithGrace(
    { delay: config.shutdownGraceMs + HANGING_MS, logger: false },
    async ({ err }) => {
      if (err !== undefined) logger.fatal({ err }, "process.crashed");
      await app.stop();
    },
  );
  await app.start();
} catch (error) {
  console.error(errorMessage(error));
  process.exit(1);
}
