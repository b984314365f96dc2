// Which addresses a delivery may go to. URLs come from tenants, so anything but the public internet is blocked unless the
// operator allows its network. Parsing and ranges are ipaddr.js's: hand-written checks of addresses keep being bypassed.
import ipaddr from "ipaddr.js";

export type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** All of the IPv6 internet. Outside it lie old forms that carry an IPv4 address, like `::7f00:1` for 127.0.0.1. */
const GLOBAL_IPV6: Network = ipaddr.parseCIDR("2000::/3");
/** RFC 6052 and 8215: what a translator sends on by IPv4. */
const NAT64: Network = ipaddr.parseCIDR("64:ff9b::/96");
const LOCAL_NAT64: Network = ipaddr.parseCIDR("64:ff9b:1::/48");
const SIX_TO_FOUR: Network = ipaddr.parseCIDR("2002::/16");
const TEREDO: Network = ipaddr.parseCIDR("2001::/32");
/** Azure's metadata and DNS address lies in public space. */
const PUBLIC_BUT_INTERNAL: readonly Network[] = [
  ipaddr.parseCIDR("168.63.129.16/32"),
];

/** `10.0.0.0/8,::1/128`; the empty text is the empty list. Null when a part is not a CIDR range. */
export function parseNetworks(text: string): readonly Network[] | null {
  const parts = text.split(",").map((part) => part.trim());
  const ranges = parts.filter((part) => part !== "");
  return ranges.every((part) => ipaddr.isValidCIDR(part))
    ? ranges.map((part) => ipaddr.parseCIDR(part))
    : null;
}

function isWithin(
  address: ipaddr.IPv4 | ipaddr.IPv6,
  networks: readonly Network[],
): boolean {
  return networks.some(
    ([network, bits]) =>
      network.kind() === address.kind() && address.match(network, bits),
  );
}

/**
 * The IPv4 addresses to which a packet for this IPv6 address may be led in the end; null when it carries none. Where a
 * translator could be set up to read them from another place than the usual one, the address counts as unknown.
 */
function embeddedAddresses(
  address: ipaddr.IPv6,
): readonly (ipaddr.IPv4 | "unknown")[] | null {
  const bytes = address.toByteArray();
  const at = (offset: number) =>
    new ipaddr.IPv4(bytes.slice(offset, offset + 4));
  if (isWithin(address, [NAT64])) return [at(12)];
  if (isWithin(address, [LOCAL_NAT64]))
    return [
      bytes.slice(6, 12).every((byte) => byte === 0) ? at(12) : "unknown",
    ];
  if (isWithin(address, [SIX_TO_FOUR])) return [at(2)];
  if (isWithin(address, [TEREDO])) {
    // RFC 4380 §4: the server, and the client with all bits inverted.
    const client = bytes.slice(12).map((byte) => byte ^ 0xff);
    return [at(4), new ipaddr.IPv4(client)];
  }
  return null;
}

function isPublic(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  if (address instanceof ipaddr.IPv6) {
    const embedded = embeddedAddresses(address);
    if (embedded !== null)
      return embedded.every((each) => each !== "unknown" && isPublic(each));
    if (!isWithin(address, [GLOBAL_IPV6])) return false;
  }
  return (
    address.range() === "unicast" && !isWithin(address, PUBLIC_BUT_INTERNAL)
  );
}

/**
 * `text` is an address in the usual spelling; IPv4 mapped into IPv6 counts as IPv4. Other IPv6 addresses that carry one are
 * public if that one is, but a network of IPv4 that the operator allows does not open them. What does not parse is blocked.
 */
export function isAllowedAddress(
  text: string,
  allowedNetworks: readonly Network[],
): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  return isWithin(address, allowedNetworks) || isPublic(address);
}
