// The two files by which a system's administrator says how names are resolved, as far as they concern us.
import { isIP } from "node:net";

/** Names in lower case, and their addresses in the order of the lines. */
export type Hosts = ReadonlyMap<string, readonly string[]>;

function wordsOf(text: string): string[][] {
  return text
    .split("\n")
    .map((line) => line.replace(/[#;].*/, "").trim())
    .filter((line) => line !== "")
    .map((line) => line.split(/\s+/));
}

/** The text of /etc/hosts. Lines that do not begin with an address are passed over. */
export function parseHosts(text: string): Hosts {
  const hosts = new Map<string, string[]>();
  for (const [address = "", ...names] of wordsOf(text)) {
    if (isIP(address) === 0) continue;
    for (const name of names.map((each) => each.toLowerCase())) {
      const addresses = hosts.get(name);
      if (addresses === undefined) hosts.set(name, [address]);
      else if (!addresses.includes(address)) addresses.push(address);
    }
  }
  return hosts;
}

/** The search domains in the text of /etc/resolv.conf; the last `search` or `domain` counts. */
export function parseSearchDomains(text: string): readonly string[] {
  const lines = wordsOf(text).filter(
    ([keyword]) => keyword === "search" || keyword === "domain",
  );
  const [, ...domains] = lines.at(-1) ?? [];
  return domains
    .map((domain) => domain.toLowerCase().replace(/\.$/, ""))
    .filter((domain) => domain !== "");
}

/**
 * The names to ask for, one after the other while they do not exist. A name with a dot is most likely whole, so it comes
 * first, whatever `ndots` says: in Kubernetes every public name would otherwise be asked for four times. A dot at the end
 * says that the name is whole.
 */
export function candidates(
  hostname: string,
  searchDomains: readonly string[],
): string[] {
  if (hostname.endsWith(".")) return [hostname.slice(0, -1)];
  const searched = searchDomains.map((domain) => `${hostname}.${domain}`);
  return hostname.includes(".")
    ? [hostname, ...searched]
    : [...searched, hostname];
}
