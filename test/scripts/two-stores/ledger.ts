// Who has asked for what, and what was sent for it: the promise in numbers.

interface Account {
  /** Requests that may be made at most. */
  allowed: number;
  sent: number;
  /** It was asked for, and nothing has been sent for it yet. */
  isOwed: boolean;
  /** The entries for which a request was made. */
  entries: Set<string>;
}

export interface Ledger {
  /** A person or a program was told yes, or an attempt is to be followed by another. */
  asked: (id: string) => void;
  /** Throws when nobody has asked for it. */
  sent: (id: string, entryId: string) => void;
  /** Postgres says that it is cancelled. */
  cancelled: (id: string) => void;
  /** A success is recorded, however late: nothing is owed any more. */
  succeeded: (id: string) => void;
  accounts: Map<string, Readonly<Account>>;
}

export function createLedger(): Ledger {
  const accounts = new Map<string, Account>();
  const of = (id: string): Account => {
    let account = accounts.get(id);
    if (account === undefined) {
      account = { allowed: 0, sent: 0, isOwed: false, entries: new Set() };
      accounts.set(id, account);
    }
    return account;
  };
  return {
    accounts,
    asked: (id) => {
      of(id).allowed++;
      of(id).isOwed = true;
    },
    sent: (id, entryId) => {
      const account = of(id);
      // An attempt whose dispatcher died after the request, or was taken for dead, is made again: at least once.
      if (account.entries.has(entryId)) account.allowed++;
      account.entries.add(entryId);
      account.sent++;
      account.isOwed = false;
      if (account.sent > account.allowed)
        throw new Error(
          `${id} was sent ${account.sent} times and asked for ${account.allowed} times`,
        );
    },
    cancelled: (id) => {
      of(id).allowed = of(id).sent;
      of(id).isOwed = false;
    },
    succeeded: (id) => {
      of(id).isOwed = false;
    },
  };
}
