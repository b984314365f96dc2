// Names to addresses. `dns.lookup` would do it on the four threads that libuv has for everything: two names whose servers
// do not answer then keep every new connection waiting. Here a name in trouble is in nobody's way, and is answered from the
// cache for a while.
import { candidates, parseHosts, parseSearchDomains } from "../core/hosts.ts";
import { type Addresses, DnsError, queryAddresses } from "./query.ts";
import { createSystemFile } from "./system-file.ts";

export interface Resolver {
  /** At least one address. Rejects with a DnsError within `timeoutMs`. */
  lookup: (hostname: string) => Promise<readonly string[]>;
}

export interface ResolverOptions {
  /** `address` or `address:port`; null for those of /etc/resolv.conf. */
  servers: readonly string[] | null;
  /** Over everything that a lookup takes. */
  timeoutMs: number;
  /** Monotonic. */
  now: () => number;
  hostsPath?: string;
  resolvConfPath?: string;
}

interface Known {
  addresses: readonly string[] | null;
  error: DnsError | null;
  freshUntil: number;
  /** Until then the addresses are served while the name servers are in trouble. */
  staleUntil: number;
}

const SHORTEST_FRESH_MS = 5000;
const LONGEST_FRESH_MS = 300_000;
/** Shorter than the first delay between attempts, so that each attempt asks anew. */
const FAILURE_FRESH_MS = 3000;
const STALE_FOR_MS = 300_000;
/** With old addresses at hand nobody waits longer than this for new ones. */
const STALE_AFTER_MS = 250;
const MOST_KNOWN_NAMES = 10_000;
const LOOPBACK = ["127.0.0.1", "::1"];

/** RFC 6761: names that no name server may be asked for. */
function specialAddresses(name: string): readonly string[] | null {
  if (/(^|\.)localhost$/.test(name)) return LOOPBACK;
  if (/(^|\.)invalid$/.test(name)) throw new DnsError(name, "ENOTFOUND");
  return null;
}

export function createResolver(options: ResolverOptions): Resolver {
  const { servers, timeoutMs, now } = options;
  const hosts = createSystemFile(
    options.hostsPath ?? "/etc/hosts",
    parseHosts,
    now,
  );
  const searchDomains = createSystemFile(
    options.resolvConfPath ?? "/etc/resolv.conf",
    parseSearchDomains,
    now,
  );
  const cache = new Map<string, Known>();
  const underWay = new Map<string, Promise<readonly string[]>>();

  async function query(name: string): Promise<Addresses> {
    const deadlineAt = now() + timeoutMs;
    let failure: DnsError | null = null;
    for (const candidate of candidates(name, searchDomains())) {
      const leftMs = deadlineAt - now();
      if (leftMs <= 0) break;
      try {
        return await queryAddresses(candidate, servers, leftMs);
      } catch (error) {
        if (!(error instanceof DnsError)) throw error;
        failure = new DnsError(name, error.code);
        if (!error.isDefinite) break;
      }
    }
    throw failure ?? new DnsError(name, "ETIMEOUT");
  }

  function remember(name: string, known: Known): void {
    cache.delete(name); // to the end of the order in which names are forgotten
    cache.set(name, known);
    if (cache.size <= MOST_KNOWN_NAMES) return;
    const [oldest] = cache.keys();
    if (oldest !== undefined) cache.delete(oldest);
  }

  /** Serves the addresses known before while the name servers are in trouble. */
  async function refresh(name: string): Promise<readonly string[]> {
    try {
      const { addresses, ttlSeconds } = await query(name);
      const ttlMs = ttlSeconds * 1000;
      const freshUntil =
        now() + Math.min(Math.max(ttlMs, SHORTEST_FRESH_MS), LONGEST_FRESH_MS);
      const staleUntil = freshUntil + STALE_FOR_MS;
      remember(name, { addresses, error: null, freshUntil, staleUntil });
      return addresses;
    } catch (error) {
      if (!(error instanceof DnsError)) throw error;
      const known = cache.get(name);
      const addresses = error.isDefinite ? null : staleAddresses(known);
      const freshUntil = now() + FAILURE_FRESH_MS;
      const staleUntil = known?.staleUntil ?? freshUntil;
      remember(name, { addresses, error, freshUntil, staleUntil });
      if (addresses === null) throw error;
      return addresses;
    }
  }

  function staleAddresses(known: Known | undefined): readonly string[] | null {
    return known !== undefined && now() < known.staleUntil
      ? known.addresses
      : null;
  }

  /** Several lookups of one name share one refresh. */
  function refreshed(name: string): Promise<readonly string[]> {
    const running = underWay.get(name);
    if (running !== undefined) return running;
    const started = refresh(name).finally(() => underWay.delete(name));
    underWay.set(name, started);
    return started;
  }

  return {
    lookup: async (hostname) => {
      const name = hostname.toLowerCase();
      const wholeName = name.replace(/\.$/, "");
      const own = hosts().get(wholeName) ?? specialAddresses(wholeName);
      if (own !== null) return own;
      const known = cache.get(name);
      if (known !== undefined && now() < known.freshUntil) {
        if (known.addresses !== null) return known.addresses;
        throw known.error ?? new DnsError(name, "ENOTFOUND");
      }
      const stale = staleAddresses(known);
      const found = refreshed(name);
      if (stale === null) return found;
      let timer: NodeJS.Timeout | undefined;
      const waited = new Promise<readonly string[]>((resolve) => {
        timer = setTimeout(() => resolve(stale), STALE_AFTER_MS);
      });
      return Promise.race([found, waited]).finally(() => clearTimeout(timer));
    },
  };
}
