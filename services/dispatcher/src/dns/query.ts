// Asks the name servers for the addresses of one name.
import { type RecordWithTtl, promises } from "node:dns";

export class DnsError extends Error {
  override readonly name = "DnsError";
  /** Of c-ares: ENOTFOUND, ENODATA, ETIMEOUT, ESERVFAIL, ECONNREFUSED and others. */
  readonly code: string;

  constructor(hostname: string, code: string) {
    super(`DNS: ${hostname} ${WHY[code] ?? "could not be resolved"} (${code})`);
    this.code = code;
  }

  /** A name server has said that there is nothing to connect to; otherwise there is trouble with the servers. */
  get isDefinite(): boolean {
    return DEFINITE.has(this.code);
  }
}

export interface Addresses {
  /** Those of IPv4 first. At least one. */
  addresses: readonly string[];
  ttlSeconds: number;
}

const WHY: Record<string, string> = {
  EBADNAME: "is not a name that can be asked for",
  ECONNREFUSED: "could not be asked for: no name server can be reached",
  ENODATA: "has no address",
  ENOTFOUND: "does not exist",
  EREFUSED: "could not be resolved: the name server refused to answer",
  ESERVFAIL: "could not be resolved: the name server failed",
  ETIMEOUT: "could not be resolved: no name server answered in time",
};
const DEFINITE = new Set(["EBADNAME", "ENODATA", "ENOTFOUND"]);
/** An answer may hold thousands, and answers are kept. Only addresses that are returned are connected to. */
const MOST_ADDRESSES = 64;
/** Each question is repeated after this time, for packets get lost, and then after twice this time. */
const REPEAT_AFTER_MS = 1000;
const TRIES = 3;
/**
 * Some name servers leave questions for IPv6 addresses unanswered. When one kind of addresses is there, the other is
 * waited for no longer than this.
 */
const OTHER_KIND_MS = 200;

function codeOf(reason: unknown): string {
  const code = (reason as { code?: unknown }).code;
  if (code === "ECANCELLED") return "ETIMEOUT";
  return typeof code === "string" ? code : "EUNKNOWN";
}

/** Of two failures the one that says most: the name may well have an address of the kind that was not answered. */
function failureOf(name: string, reasons: unknown[]): DnsError {
  const errors = reasons.map((reason) => new DnsError(name, codeOf(reason)));
  return (
    errors.find(({ code }) => code === "ENOTFOUND") ??
    errors.find(({ isDefinite }) => !isDefinite) ??
    errors[0]!
  );
}

/**
 * Rejects with a DnsError, within `timeoutMs`. `servers`: null for those of the system.
 *
 * Every call has a c-ares channel of its own, which costs 40 us: so it can be given up alone, it follows changes of
 * /etc/resolv.conf, and no name can be in the way of another.
 */
export async function queryAddresses(
  name: string,
  servers: readonly string[] | null,
  timeoutMs: number,
): Promise<Addresses> {
  const resolver = new promises.Resolver({
    timeout: Math.min(REPEAT_AFTER_MS, Math.ceil(timeoutMs / TRIES)),
    tries: TRIES,
  });
  if (servers !== null) resolver.setServers(servers);
  const giveUp = () => resolver.cancel();
  let timer = setTimeout(giveUp, timeoutMs);
  const hurry = (records: RecordWithTtl[]) => {
    clearTimeout(timer);
    timer = setTimeout(giveUp, OTHER_KIND_MS);
    return records;
  };
  try {
    const answers = await Promise.allSettled([
      resolver.resolve4(name, { ttl: true }).then(hurry),
      resolver.resolve6(name, { ttl: true }).then(hurry),
    ]);
    const records = answers.flatMap((answer) =>
      answer.status === "fulfilled" ? answer.value : [],
    );
    if (records.length === 0)
      throw failureOf(
        name,
        answers.map((each) => (each.status === "rejected" ? each.reason : {})),
      );
    return {
      addresses: records.slice(0, MOST_ADDRESSES).map((each) => each.address),
      ttlSeconds: Math.min(...records.map(({ ttl }) => ttl)),
    };
  } finally {
    clearTimeout(timer);
  }
}
