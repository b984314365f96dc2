// One POST: no redirects, no decompression, a bounded body, one deadline over the whole attempt.
import type { Logger } from "@pipeline/shared/logger";
import type { SendResult } from "../core/outcome.ts";
import type { Resolver } from "../dns/resolver.ts";
import { createConnections } from "./connections.ts";
import { createDescribeFailure } from "./describe-failure.ts";
import { DeadlineError, exchange } from "./exchange.ts";
import { createGuardedConnector } from "./guarded-connector.ts";

export interface SendRequest {
  url: string;
  headers: Record<string, string>;
  body: string;
}

export interface HttpSender {
  /** Never rejects: whatever happens to a request is a result. */
  send: (request: SendRequest) => Promise<SendResult>;
  close: () => Promise<void>;
}

export interface SenderOptions {
  attemptTimeoutMs: number;
  isAllowed: (address: string) => boolean;
  resolver: Resolver;
  logger: Logger;
}

const LONGEST_CONNECT_MS = 10_000;

export function createHttpSender({
  attemptTimeoutMs,
  isAllowed,
  resolver,
  logger,
}: SenderOptions): HttpSender {
  const describe = createDescribeFailure(attemptTimeoutMs, logger);
  const connections = createConnections(
    createGuardedConnector({
      connectTimeoutMs: Math.min(attemptTimeoutMs, LONGEST_CONNECT_MS),
      isAllowed,
      resolver,
    }),
  );

  /**
   * Receivers close connections that have been idle for a while, and what is sent at that moment is lost. It is sent again
   * at once, on a connection of its own making, and only once. Should the receiver have read it all the same, it sees this
   * attempt twice, under one `webhook-id`.
   */
  async function post(
    origin: string,
    request: Parameters<typeof exchange>[1],
  ): Promise<SendResult> {
    const deadlineAt = performance.now() + attemptTimeoutMs;
    let ended = await exchange(
      connections.take(origin),
      request,
      attemptTimeoutMs,
    );
    if (ended.kind === "stale")
      ended = await exchange(
        connections.open(origin),
        request,
        Math.max(1, deadlineAt - performance.now()),
      );
    if (ended.kind === "answer") return ended.answer;
    return describe(ended.kind === "error" ? ended.error : new DeadlineError());
  }

  return {
    send: async ({ url, headers, body }) => {
      try {
        const { origin, pathname, search } = new URL(url);
        const path = pathname + search;
        return await post(origin, { path, method: "POST", headers, body });
      } catch (error) {
        return describe(error);
      }
    },
    close: connections.closeAll,
  };
}
