// What Postgres has noted of deletions, and how far they have been carried on.
import { type SupabaseClient, unwrap } from "@pipeline/shared/database";

/** A delivery or an endpoint whose copies are still in the queue. */
export interface Deletion {
  id: string;
  kind: "delivery" | "endpoint" | "cancelled";
  /** The delivery's row is still there: it was cancelled, or its endpoint was deleted. */
  isKept: boolean;
  /** Created so recently that it may not have been enqueued yet. */
  isNew: boolean;
}

export interface DeletionRows {
  /** Up to `pageSize`, the longest due first, and whether there are dead letters to search for. */
  due: (
    pageSize: number,
  ) => Promise<{ deletions: Deletion[]; hasLetters: boolean }>;
  /** Ends the next page of the endpoint's unfinished deliveries; what remains is due again. */
  cancelDeliveriesOf: (endpointId: string, pageSize: number) => Promise<void>;
  /** Those of the deliveries that are to be sent (again), whatever was noted before. */
  unfinished: (ids: string[]) => Promise<string[]>;
  /** The queue no longer holds `cleared`; `running` are to be looked at again. */
  checked: (cleared: Deletion[], running: Deletion[]) => Promise<void>;
  /** Deliveries whose dead letters are to be searched for, none of them older than `since` (ms since 1970). */
  lettersDue: (most: number) => Promise<{ ids: string[]; since: number }>;
  lettersDone: (ids: string[]) => Promise<void>;
  /** Forgets deletions that were done long ago; resolves to their number. */
  forget: () => Promise<number>;
}

interface DeletionRow {
  id: string;
  kind: Deletion["kind"];
  step: "queue" | "letters";
  is_kept: boolean;
  is_new: boolean;
}

interface LettersRow {
  ids: string[];
  since: string | null;
}

const idsOf = (deletions: Deletion[]) => deletions.map(({ id }) => id);

export function createDeletionRows(client: SupabaseClient): DeletionRows {
  return {
    due: async (pageSize) => {
      const rows: DeletionRow[] = await unwrap(
        client.rpc("deletions_due", { page_size: pageSize }),
      );
      const queued = rows.filter(({ step }) => step === "queue");
      return {
        deletions: queued.map(({ id, kind, is_kept, is_new }) => ({
          id,
          kind,
          isKept: is_kept,
          isNew: is_new,
        })),
        hasLetters: queued.length < rows.length,
      };
    },
    cancelDeliveriesOf: async (endpointId, pageSize) => {
      const args = { endpoint: endpointId, page_size: pageSize };
      await unwrap(client.rpc("cancel_deliveries_of_deleted_endpoint", args));
    },
    unfinished: async (ids) => {
      const rows: { id: string }[] = await unwrap(
        client.rpc("unfinished_of", { ids }),
      );
      return rows.map(({ id }) => id);
    },
    checked: async (cleared, running) => {
      const args = { cleared: idsOf(cleared), running: idsOf(running) };
      await unwrap(client.rpc("deletions_checked", args));
    },
    lettersDue: async (most) => {
      const [row]: LettersRow[] = await unwrap(
        client.rpc("letters_due", { most }),
      );
      const since = Date.parse(row?.since ?? "");
      return { ids: row?.ids ?? [], since: since || 0 };
    },
    lettersDone: async (ids) => {
      await unwrap(client.rpc("letters_done", { ids }));
    },
    forget: () => unwrap<number>(client.rpc("forget_deletions")),
  };
}
