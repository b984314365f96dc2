import { PipelineError } from "@pipeline/shared/errors";

export interface DatabaseGate {
  /** Runs the call, or throws DATABASE_UNAVAILABLE at once while the database is known to be away. */
  run: <Result>(call: () => Promise<Result>) => Promise<Result>;
}

/** One call without an answer may have met a single broken connection, or a single slow row. */
const FAULTS_TO_SHUT = 2;

/**
 * Keeps requests from queueing up behind a database that does not answer: after two calls in a row without an answer every
 * call fails at once for `restMs`, then one call probes while the others still fail at once. Any answer counts for the
 * database, be it a refusal or a lock timeout: it is there. So does an answer to another call that came after this one
 * began.
 */
export function createDatabaseGate(
  restMs: number,
  now: () => number,
): DatabaseGate {
  let faults = 0;
  let isShut = false;
  let probeAt = 0;
  let answeredAt = -Infinity;

  function answered(): void {
    answeredAt = now();
    faults = 0;
    isShut = false;
  }

  function faulted(beganAt: number, isProbe: boolean): void {
    if (!isProbe && answeredAt >= beganAt) return;
    faults++;
    if (!isProbe && faults < FAULTS_TO_SHUT) return;
    isShut = true;
    probeAt = now() + restMs;
  }

  async function attempt<Result>(
    call: () => Promise<Result>,
    isProbe: boolean,
  ): Promise<Result> {
    const beganAt = now();
    try {
      const result = await call();
      answered();
      return result;
    } catch (error) {
      const contact = error instanceof PipelineError ? error.contact : null;
      if (contact === "unreached" || contact === "unanswered")
        faulted(beganAt, isProbe);
      else answered();
      throw error;
    }
  }

  return {
    run: (call) => {
      if (!isShut) return attempt(call, false);
      if (now() < probeAt) {
        return Promise.reject(
          new PipelineError(
            "DATABASE_UNAVAILABLE",
            "Supabase did not answer a moment ago",
            { contact: "unreached" },
          ),
        );
      }
      probeAt = Infinity;
      return attempt(call, true);
    },
  };
}
