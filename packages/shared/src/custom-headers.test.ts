import { expect, test } from "vitest";
import { parseCustomHeaders } from "./custom-headers.ts";

const parse = (value: unknown) => parseCustomHeaders(JSON.stringify(value));

test("no headers, or null, are no headers", () => {
  expect(parseCustomHeaders(null)).toEqual({ ok: true, headers: {} });
  expect(parseCustomHeaders("null")).toEqual({ ok: true, headers: {} });
  expect(parseCustomHeaders("{}")).toEqual({ ok: true, headers: {} });
});

test("header names are lower-cased and their values kept", () => {
  expect(parse({ "X-Api-Key": "k 1", authorization: "Bearer ÿ" })).toEqual({
    ok: true,
    headers: { "x-api-key": "k 1", authorization: "Bearer ÿ" },
  });
});

test.each(["", "{", "[]", '"x"', "7", "true"])(
  "%j is not an object of headers",
  (text) => {
    expect(parseCustomHeaders(text)).toEqual({
      ok: false,
      error: "headers: must be a JSON object",
    });
  },
);

test.each([
  "Host",
  "connection",
  "Content-Length",
  "Content-Encoding",
  "content-type",
  "transfer-encoding",
  "TE",
  "trailer",
  "Upgrade",
  "expect",
  "keep-alive",
  "accept-encoding",
  "proxy-authorization",
  "Webhook-Id",
  "webhook-signature",
  "webhook-anything",
  "X-Webhook-Signature",
  "x-webhook-timestamp",
  "x-webhook-version",
])("%s cannot be set by a tenant", (name) => {
  expect(parse({ [name]: "hidden value" })).toEqual({
    ok: false,
    error: `headers: ${name} is set by the dispatcher`,
  });
});

test.each(["x-webhook-source", "hosts", "user-agent", "x-te", "cookie"])(
  "%s may be set",
  (name) => {
    expect(parse({ [name]: "v" })).toEqual({
      ok: true,
      headers: { [name]: "v" },
    });
  },
);

test.each(["", "a b", "a:b", "a\r\nb", "é", "x".repeat(101), "(x)"])(
  "%j is not a header name, and the error does not repeat it",
  (name) => {
    expect(parse({ [name]: "v" })).toEqual({
      ok: false,
      error: "headers: has a name that is not an HTTP header name",
    });
  },
);

test.each([
  "a\r\nx-injected: 1",
  "a\nb",
  "a\rb",
  "a\0b",
  "\u007f",
  "Łódź",
  "x".repeat(4097),
  7,
  null,
  ["a"],
  { a: 1 },
])("the value %j is refused, and the error does not repeat it", (value) => {
  expect(parse({ "X-Key": value })).toEqual({
    ok: false,
    error: "headers: X-Key must be a string that HTTP allows",
  });
});
