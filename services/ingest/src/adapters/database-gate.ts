import { hasCode, PipelineError } from "@pipeline/shared/errors";

export interface DatabaseGate {
  /** Runs the call, or throws DATABASE_UNAVAILABLE at once while the database is known to be away. */
  run: <Result>(call: () => Promise<Result>) => Promise<Result>;
}

/**
 * Keeps requests from queueing up behind a database that does not answer: after a fault every call fails at once for
 * `restMs`, then one call probes while the others still fail at once.
 */
export function createDatabaseGate(
  restMs: number,
  now: () => number,
): DatabaseGate {
  let isClosed = false;
  let probeAt = 0;

  async function attempt<Result>(call: () => Promise<Result>): Promise<Result> {
    try {
      const result = await call();
      isClosed = false;
      return result;
    } catch (error) {
      isClosed = hasCode(error, "DATABASE_UNAVAILABLE");
      probeAt = now() + restMs;
      throw error;
    }
  }

  return {
    run: (call) => {
      if (!isClosed) return attempt(call);
      if (now() < probeAt) {
        return Promise.reject(
          new PipelineError(
            "DATABASE_UNAVAILABLE",
            "Supabase did not answer a moment ago",
          ),
        );
      }
      probeAt = Infinity;
      return attempt(call);
    },
  };
}
