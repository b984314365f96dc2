// Request bodies: JSON in the charset that the content type names, or none. Some routes also get their body's text.
import { TextDecoder } from "node:util";
import type { FastifyInstance, FastifyRequest } from "fastify";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The route passes payloads on as they came, so that it needs `bodyText`. */
    keepsText?: boolean;
  }
  interface FastifyRequest {
    bodyText: string | null;
  }
}

/** A body that cannot be read, with what is answered. */
class UnreadableBody extends Error {
  override readonly name = "UnreadableBody";
  readonly statusCode: 400 | 415;

  constructor(statusCode: 400 | 415, message: string) {
    super(message);
    this.statusCode = statusCode;
  }
}

// One for all requests: decoding a whole body leaves no state behind.
const utf8 = new TextDecoder("utf-8", { fatal: true });

function charsetOf(contentType: string): string {
  const [, charset = "utf-8"] =
    /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(contentType) ?? [];
  return charset.toLowerCase();
}

function decoderOf(charset: string): TextDecoder {
  if (charset === "utf-8" || charset === "utf8") return utf8;
  try {
    return new TextDecoder(charset, { fatal: true });
  } catch {
    throw new UnreadableBody(
      415,
      `The charset ${charset.slice(0, 100)} is not known; send UTF-8`,
    );
  }
}

/** Without a byte order mark. Bytes that are not text would otherwise be delivered as U+FFFD. */
function decode(body: Buffer, contentType: string): string {
  const charset = charsetOf(contentType);
  const decoder = decoderOf(charset);
  try {
    return decoder.decode(body);
  } catch {
    throw new UnreadableBody(
      400,
      `The body is not valid ${charset}; name its charset in the content type, or send UTF-8`,
    );
  }
}

function readJson(request: FastifyRequest, body: Buffer): unknown {
  const text = decode(body, request.headers["content-type"] ?? "");
  if (request.routeOptions.config.keepsText === true) request.bodyText = text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new UnreadableBody(
      400,
      "Body is not valid JSON but content-type is set to 'application/json'",
    );
  }
}

/** JSON only. A body may be absent, as it is with retry and cancel, whatever content type a client names. */
export function addBodyParsers(server: FastifyInstance): void {
  server.decorateRequest("bodyText", null);
  server.removeAllContentTypeParsers();
  server.addContentTypeParser<Buffer>(
    "application/json",
    { parseAs: "buffer" },
    async (request: FastifyRequest, body: Buffer) =>
      body.length === 0 ? undefined : readJson(request, body),
  );
  server.addContentTypeParser<Buffer>(
    "*",
    { parseAs: "buffer" },
    async (_request: FastifyRequest, body: Buffer) => {
      if (body.length === 0) return undefined;
      throw new UnreadableBody(
        415,
        "The content type must be application/json",
      );
    },
  );
  // Before the body is read; after the request is authorized.
  server.addHook("preParsing", async (request) => {
    const encoding = request.headers["content-encoding"];
    if (encoding === undefined || /^(identity)?$/i.test(encoding.trim()))
      return;
    throw new UnreadableBody(
      415,
      `The body must not be compressed, but content-encoding is set to '${encoding.slice(0, 100)}'`,
    );
  });
}
