import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { legacySignature, signingKey, standardSignature } from "./signature.ts";

test("the test vector of the Standard Webhooks specification is signed as published", () => {
  const key = signingKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  const webhookId = "msg_p5jXN8AQM9LWM0D4loKWxJek";
  const body = '{"test": 2432232314}';
  expect(
    standardSignature(key, {
      webhookId,
      timestampSeconds: 1_614_265_330,
      body,
    }),
  ).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
});

test("a plain secret signs with its own bytes, and so does every character of the body", () => {
  const secret = "grüße";
  const body = '{"name":"Zoë 😀"}';
  const expected = createHmac("sha256", Buffer.from(secret))
    .update(Buffer.from(`id.1.${body}`))
    .digest("base64");
  expect(
    standardSignature(signingKey(secret), {
      webhookId: "id",
      timestampSeconds: 1,
      body,
    }),
  ).toBe(`v1,${expected}`);
});

test("the same secret gives the same key, another one another", () => {
  const sign = (secret: string) =>
    standardSignature(signingKey(secret), {
      webhookId: "a",
      timestampSeconds: 1,
      body: "",
    });
  expect(sign("whsec_AAAA")).toBe(sign("whsec_AAAA"));
  expect(sign("whsec_AAAA")).not.toBe(sign("whsec_AAAB"));
});

test("the older header is the hex HMAC of the body alone, the whole secret being the key", () => {
  const expected = createHmac("sha256", "whsec_MfKQ")
    .update("body")
    .digest("hex");
  expect(legacySignature("whsec_MfKQ", "body")).toBe(expected);
});
