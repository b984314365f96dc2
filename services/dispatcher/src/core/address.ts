// Which addresses a delivery may go to. URLs come from tenants, so anything but the public internet is refused unless the
// operator allows its network. Parsing and ranges are ipaddr.js's: hand-written checks of addresses keep being bypassed.
import ipaddr from "ipaddr.js";

export type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

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

/** `text` is an address in the usual spelling; IPv4 mapped into IPv6 counts as IPv4. What does not parse is refused. */
export function isAllowedAddress(
  text: string,
  allowedNetworks: readonly Network[],
): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (isWithin(address, allowedNetworks)) return true;
  return (
    address.range() === "unicast" && !isWithin(address, PUBLIC_BUT_INTERNAL)
  );
}
