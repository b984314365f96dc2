import { expect, test } from "vitest";
import { secretFault } from "./signing-secret.ts";

test.each([
  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
  `whsec_${Buffer.alloc(16, 1).toString("base64")}`,
  `whsec_${Buffer.alloc(16, 1).toString("base64").replaceAll("=", "")}`,
  `whsec_${Buffer.alloc(64, 255).toString("base64")}`,
  "a secret in plain words",
  "é",
  " ",
  "WHSEC_!!!!",
])("%j can sign", (secret) => {
  expect(secretFault(secret)).toBeNull();
});

test.each([
  ["", "must not be empty"],
  ["whsec_", "must hold at least 16 bytes of base64 after whsec_"],
  ["whsec_AAAA", "must hold at least 16 bytes of base64 after whsec_"],
  [
    `whsec_${Buffer.alloc(15).toString("base64")}`,
    "must hold at least 16 bytes of base64 after whsec_",
  ],
  ["whsec_!!!!", "must be base64 after whsec_"],
  ["whsec_====", "must be base64 after whsec_"],
  ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "must be base64 after whsec_"],
  ["whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must be base64 after whsec_"],
  ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS-", "must be base64 after whsec_"],
  ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA", "must be base64 after whsec_"],
])("%j cannot", (secret, fault) => {
  expect(secretFault(secret)).toBe(fault);
});
