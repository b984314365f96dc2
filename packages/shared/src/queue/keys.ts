// Every Redis key of the pipeline. All others have the stream's name as their hash tag, so that they share its cluster
// slot, while producers can write to a plain `webhook:deliveries`.
import { hash } from "node:crypto";

export const DISPATCHERS_GROUP = "dispatchers";
export const RECORDERS_GROUP = "recorders";

export interface Keys {
  stream: string;
  retries: string;
  retriesData: string;
  dead: string;
  log: string;
  /** Hash: delivery id → the one place where the delivery is. */
  homes: string;
  /** Sorted set: when the tombstones among the homes expire. */
  tombstones: string;
  /** What `homes` was called before. */
  formerHomes: string;
  /**
   * Sorted set: endpoint → the moment (ms since 1970) before which nothing is let out. The lists themselves are called
   * `<this>:<endpoint>`; the scripts name them.
   */
  waiting: string;
  /** Hash: delivery id → the entry's fields as JSON, for deliveries in waiting lists. */
  waitingData: string;
  /** Hash: endpoint → the last entry that was let out of its waiting list. */
  letOut: string;
  bucket: string;
  epoch: string;
  /** Set while a full reconcile runs. If it is gone when the pass ends, Redis lost its data again during the pass. */
  epochCandidate: string;
  /** One per entry that was read too often, and only for a day. */
  mark: (entryId: string) => string;
  /** One bucket per endpoint. The name holds a digest: a URL's path may be a credential, and everyone sees key names. */
  endpointBucket: (endpoint: string) => string;
}

/** `streamKey` must not contain braces: they would move the hash tag. */
export function createKeys(streamKey: string): Keys {
  const companion = (name: string) => `{${streamKey}}:${name}`;
  return {
    stream: streamKey,
    retries: companion("retries"),
    retriesData: companion("retries:data"),
    dead: companion("dead"),
    log: companion("log"),
    homes: companion("homes"),
    tombstones: companion("tombstones"),
    formerHomes: companion("inflight"),
    waiting: companion("waiting"),
    waitingData: companion("waiting:data"),
    letOut: companion("waiting:out"),
    bucket: companion("bucket"),
    epoch: companion("epoch"),
    epochCandidate: companion("epoch:candidate"),
    mark: (entryId) => companion(`mark:${entryId}`),
    endpointBucket: (endpoint) =>
      companion(`bucket:${hash("sha256", endpoint, "base64url")}`),
  };
}
