import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { toErrorBody } from "./errors.ts";

const digest = (text: string) => createHash("sha256").update(text).digest();

/** `Authorization: Bearer <key>` for the server's routes; without keys everything is allowed. */
export function requireApiKey(
  server: FastifyInstance,
  apiKeys: readonly string[],
): void {
  if (apiKeys.length === 0) return;
  // All digests have the same length and every one is compared, so the time tells neither the length nor the position of a key.
  const expected = apiKeys.map(digest);
  server.addHook("onRequest", (request, reply, done) => {
    const [, key] =
      /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "") ?? [];
    const actual = digest(key ?? "");
    let isKnown = false;
    for (const each of expected)
      isKnown = timingSafeEqual(each, actual) || isKnown;
    if (isKnown && key !== undefined) return done();
    reply
      .code(401)
      .header("www-authenticate", "Bearer")
      .send(
        toErrorBody(
          "Authorization: Bearer <key> is required, with a key from INGEST_API_KEYS",
        ),
      );
  });
}
