import { expect, test } from "vitest";
import { candidates, parseHosts, parseSearchDomains } from "./hosts.ts";

test("names and their aliases have the addresses of their lines, in that order", () => {
  const hosts = parseHosts(`
# a comment
127.0.0.1\tlocalhost  Alias.Test # another
::1 localhost
10.0.0.1 crm
10.0.0.1 crm
not-an-address name
10.0.0.2
`);
  expect(Object.fromEntries(hosts)).toEqual({
    localhost: ["127.0.0.1", "::1"],
    "alias.test": ["127.0.0.1"],
    crm: ["10.0.0.1"],
  });
});

test("the last line of search domains counts", () => {
  const text = "nameserver 10.0.0.53\ndomain old.test\nsearch a.test B.test.\n";
  expect(parseSearchDomains(text)).toEqual(["a.test", "b.test"]);
  expect(parseSearchDomains("domain a.test # here")).toEqual(["a.test"]);
  expect(parseSearchDomains("nameserver 10.0.0.53\nsearch .\n")).toEqual([]);
  expect(parseSearchDomains("")).toEqual([]);
});

test("a name with a dot is asked for as it is first, one without a dot last", () => {
  const domains = ["a.test", "b.test"];
  expect(candidates("hook.example", domains)).toEqual([
    "hook.example",
    "hook.example.a.test",
    "hook.example.b.test",
  ]);
  expect(candidates("crm", domains)).toEqual([
    "crm.a.test",
    "crm.b.test",
    "crm",
  ]);
  expect(candidates("crm", [])).toEqual(["crm"]);
});

test("a name that ends with a dot is whole", () => {
  expect(candidates("crm.", ["a.test"])).toEqual(["crm"]);
  expect(candidates("hook.example.", ["a.test"])).toEqual(["hook.example"]);
});
