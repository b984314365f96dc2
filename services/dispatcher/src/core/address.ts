// Which addresses a delivery may go to. URLs come from tenants, so anything but the public internet is blocked unless the
// operator allows its network. Parsing and ranges are ipaddr.js's: hand-written checks of addresses keep being bypassed.
import ipaddr from "ipaddr.js";

export type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** All of the IPv6 internet. Outside it lie old forms that carry an IPv4 address, like `::7f00:1` for 127.0.0.1. */
const GLOBAL_IPV6: Network = ipaddr.parseCIDR("2000::/3");
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

/** `text` is an address in the usual spelling; IPv4 mapped into IPv6 counts as IPv4. What does not parse is blocked. */
export function isAllowedAddress(
  text: string,
  allowedNetworks: readonly Network[],
): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (isWithin(address, allowedNetworks)) return true;
  if (address.kind() === "ipv6" && !isWithin(address, [GLOBAL_IPV6]))
    return false;
  return (
    address.range() === "unicast" && !isWithin(address, PUBLIC_BUT_INTERNAL)
  );
}
