import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { signAttempt, USER_AGENT } from "./request.ts";

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
