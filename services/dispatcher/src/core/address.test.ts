import { expect, test } from "vitest";
import { isAllowedAddress, parseNetworks } from "./address.ts";

test.each([
  ["8.8.8.8"],
  ["1.1.1.1"],
  ["100.63.255.255"],
  ["100.128.0.0"],
  ["172.15.255.255"],
  ["172.32.0.0"],
  ["168.63.129.15"],
  ["2606:4700:4700::1111"],
  ["2001:4860:4860::8888"],
  ["::ffff:8.8.8.8"],
  ["64:ff9b::8.8.8.8"],
  ["64:ff9b::808:808"],
  ["64:ff9b:1::8.8.8.8"],
  ["2002:808:808::1"],
  // Server 8.8.8.8, client 1.1.1.1.
  ["2001:0:808:808:0:0:fefe:fefe"],
])("%s is public and allowed", (address) => {
  expect(isAllowedAddress(address, [])).toBe(true);
});

test.each([
  ["0.0.0.0", "this host"],
  ["10.1.2.3", "private"],
  ["100.64.0.1", "carrier-grade NAT"],
  ["100.100.100.200", "Alibaba's metadata"],
  ["127.0.0.1", "loopback"],
  ["127.255.255.254", "loopback"],
  ["169.254.169.254", "link-local: metadata of AWS, GCP and Azure"],
  ["168.63.129.16", "Azure's metadata, in public space"],
  ["172.16.0.1", "private"],
  ["172.31.255.255", "private"],
  ["192.0.0.192", "IETF assignments: Oracle's metadata"],
  ["192.0.2.1", "documentation"],
  ["192.168.1.1", "private"],
  ["198.18.0.1", "benchmarking"],
  ["198.51.100.1", "documentation"],
  ["203.0.113.1", "documentation"],
  ["224.0.0.1", "multicast"],
  ["240.0.0.1", "reserved"],
  ["255.255.255.255", "broadcast"],
  ["::", "unspecified"],
  ["::1", "loopback"],
  ["fc00::1", "unique local"],
  ["fd00:ec2::254", "AWS's metadata over IPv6"],
  ["fe80::1", "link-local"],
  ["fe80::1%eth0", "link-local with a zone"],
  ["fec0::1", "site-local"],
  ["ff02::1", "multicast"],
  ["2001:db8::1", "documentation"],
  ["100::1", "discard"],
  ["2001::1", "Teredo"],
])("%s is refused: %s", (address) => {
  expect(isAllowedAddress(address, [])).toBe(false);
});

test.each([
  ["::ffff:127.0.0.1", "mapped"],
  ["::ffff:7f00:1", "mapped, in hexadecimal"],
  ["0:0:0:0:0:ffff:a00:1", "mapped, written out"],
  ["::ffff:168.63.129.16", "mapped, in public space"],
  ["::127.0.0.1", "IPv4-compatible"],
  ["::7f00:1", "IPv4-compatible, as a URL spells it"],
  ["::a9fe:a9fe", "IPv4-compatible"],
  ["::ffff:0:7f00:1", "translated"],
  ["64:ff9b::7f00:1", "NAT64"],
  ["64:ff9b::a9fe:a9fe", "NAT64"],
  ["64:ff9b:1::7f00:1", "local NAT64"],
  ["2002:7f00:1::", "6to4"],
  ["2002:a9fe:a9fe::1", "6to4"],
  ["64:ff9b::a00:1", "NAT64"],
  ["64:ff9b::a83f:8110", "NAT64, in public space"],
  ["64:ff9b::", "NAT64"],
  ["64:ff9b:0:1::8.8.8.8", "outside of NAT64"],
  ["64:ff9b:1::a9fe:a9fe", "local NAT64"],
  ["64:ff9b:1:a9fe:0:a9fe::", "local NAT64, in another place"],
  ["64:ff9b:1:a9fe:0:a9fe:808:808", "local NAT64, in two places"],
  ["2002:a83f:8110::1", "6to4, in public space"],
  ["2001:0:808:808:0:0:80ff:fffe", "Teredo, the client 127.0.0.1"],
  ["2001:0:7f00:1:0:0:fefe:fefe", "Teredo, the server 127.0.0.1"],
])("%s hides an IPv4 address (%s) and is refused", (address) => {
  expect(isAllowedAddress(address, [])).toBe(false);
});

test.each([
  "2130706433",
  "0x7f.1",
  "0x7f000001",
  "0177.0.0.1",
  "127.1",
  "127.0.0.1 ",
])("the odd spelling %j of loopback is refused", (address) => {
  expect(isAllowedAddress(address, [])).toBe(false);
});

test.each(["", "localhost", "example.com", "256.1.1.1", "8.8.8.8/32", "::g"])(
  "%j is no address and is refused",
  (text) => {
    expect(isAllowedAddress(text, [])).toBe(false);
  },
);

test("an allowed network lets its addresses through and no others", () => {
  const allowed = parseNetworks("10.0.0.0/8, ::1/128,168.63.129.16/32")!;
  expect(isAllowedAddress("10.255.0.1", allowed)).toBe(true);
  expect(isAllowedAddress("::ffff:10.0.0.1", allowed)).toBe(true);
  expect(isAllowedAddress("::1", allowed)).toBe(true);
  expect(isAllowedAddress("168.63.129.16", allowed)).toBe(true);
  expect(isAllowedAddress("11.0.0.1", allowed)).toBe(true);
  expect(isAllowedAddress("127.0.0.1", allowed)).toBe(false);
  expect(isAllowedAddress("::2", allowed)).toBe(false);
  expect(isAllowedAddress("192.168.0.1", allowed)).toBe(false);
});

test("an allowed IPv4 network says nothing of IPv6 addresses that hide it", () => {
  const allowed = parseNetworks("127.0.0.0/8")!;
  expect(isAllowedAddress("127.0.0.1", allowed)).toBe(true);
  expect(isAllowedAddress("::1", allowed)).toBe(false);
  expect(isAllowedAddress("64:ff9b::7f00:1", allowed)).toBe(false);
  expect(isAllowedAddress("2002:7f00:1::1", allowed)).toBe(false);
});

test("an allowed IPv6 network opens the addresses in it, whatever they carry", () => {
  const allowed = parseNetworks("64:ff9b:1::/48")!;
  expect(isAllowedAddress("64:ff9b:1::7f00:1", allowed)).toBe(true);
  expect(isAllowedAddress("64:ff9b::7f00:1", allowed)).toBe(false);
});

test("the empty list allows nothing more", () => {
  expect(parseNetworks("")).toEqual([]);
  expect(parseNetworks(" , ")).toEqual([]);
});

test.each(["10.0.0.0", "10.0.0.0/33", "localhost/8", "10.0.0.0/8;::1/128"])(
  "%j is not a list of CIDR ranges",
  (text) => {
    expect(parseNetworks(text)).toBeNull();
  },
);
