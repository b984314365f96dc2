import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { parseCustomHeaders, signAttempt, USER_AGENT } from "./request.ts";

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

const now = Date.parse("2026-03-01T12:00:00.999Z");
const timestamp = "1772366400";
const attempt = (secret: string | null, payload = '{"name":"Zoë"}') =>
  signAttempt(
    { deliveryId: "d-1", payload, secret, customHeaders: { "x-key": "k" } },
    now,
  );

test("an attempt without a secret is unsigned and carries everything else", () => {
  expect(attempt(null)).toEqual({
    headers: {
      "user-agent": USER_AGENT,
      "x-key": "k",
      "content-type": "application/json",
      "accept-encoding": "identity",
      "webhook-id": "d-1",
      "webhook-timestamp": timestamp,
      "x-webhook-timestamp": timestamp,
      "x-webhook-version": "1.0",
    },
    signature: null,
  });
});

test.each([
  [
    "a plain secret is the key as it is",
    "plain sécret",
    Buffer.from("plain sécret", "utf8"),
  ],
  [
    "a whsec_ secret is the key in base64",
    "whsec_AAECAwQFBgcICQ==",
    Buffer.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
  ],
])("%s, over id, timestamp and body", (_, secret, key) => {
  const payload = '{"name":"Zoë 😀"}';
  const { headers, signature } = attempt(secret, payload);
  const expected = createHmac("sha256", key)
    .update(`d-1.${timestamp}.${payload}`)
    .digest("base64");
  expect(signature).toBe(`v1,${expected}`);
  expect(headers["webhook-signature"]).toBe(signature);
});

test.each(["plain sécret", "whsec_AAECAwQFBgcICQ=="])(
  "the older hex signature takes the secret %s as it is, over the body alone",
  (secret) => {
    expect(attempt(secret).headers["x-webhook-signature"]).toBe(
      createHmac("sha256", secret).update('{"name":"Zoë"}').digest("hex"),
    );
  },
);

test("a tenant's headers may replace the user agent and nothing else of ours", () => {
  const { headers } = signAttempt(
    {
      deliveryId: "d-1",
      payload: "{}",
      secret: "s",
      customHeaders: {
        "user-agent": "theirs",
        "webhook-id": "forged",
        "webhook-timestamp": "0",
        "webhook-signature": "v1,forged",
        "content-type": "text/plain",
        "accept-encoding": "gzip",
      },
    },
    now,
  );
  expect(headers).toMatchObject({
    "user-agent": "theirs",
    "webhook-id": "d-1",
    "webhook-timestamp": timestamp,
    "content-type": "application/json",
    "accept-encoding": "identity",
  });
  expect(headers["webhook-signature"]).not.toContain("forged");
});
