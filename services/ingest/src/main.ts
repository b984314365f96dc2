import { errorMessage } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import closeWithGrace from "close-with-grace";
import { createApp } from "./app.ts";
import { readConfig } from "./config.ts";

try {
  const config = readConfig(process.env);
  const logger = createLogger("ingest", config.logLevel);
  const app = await createApp(config, logger);
  closeWithGrace(
    { delay: config.shutdownGraceMs, logger: false },
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
