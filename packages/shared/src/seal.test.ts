import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { createSealer, isSealed } from "./seal.ts";

const key = randomBytes(32).toString("base64");

test("what is sealed opens with the same key and shows nothing of its text", () => {
  const sealed = createSealer(key).seal("whsec_geheim ü");
  expect(isSealed(sealed)).toBe(true);
  expect(sealed).not.toContain("geheim");
  expect(createSealer(key).open(sealed)).toBe("whsec_geheim ü");
});

test("an empty text can be sealed", () => {
  expect(createSealer(key).open(createSealer(key).seal(""))).toBe("");
});

test("another key opens nothing", () => {
  const sealed = createSealer(key).seal("secret");
  expect(
    createSealer(randomBytes(32).toString("base64")).open(sealed),
  ).toBeNull();
});

test("text that was tampered with, cut or never valid opens as nothing", () => {
  const sealed = createSealer(key).seal("secret");
  const bytes = Buffer.from(sealed.slice("sealed:v1:".length), "base64");
  for (const position of [0, 12, bytes.length - 1]) {
    const tampered = Buffer.from(bytes);
    tampered[position]! ^= 1;
    expect(
      createSealer(key).open(`sealed:v1:${tampered.toString("base64")}`),
    ).toBeNull();
  }
  expect(createSealer(key).open(sealed.slice(0, -8))).toBeNull();
  expect(createSealer(key).open("sealed:v1:")).toBeNull();
});

test("sealing twice changes nothing, and plain text opens as itself", () => {
  const sealer = createSealer(key);
  const sealed = sealer.seal("secret");
  expect(sealer.seal(sealed)).toBe(sealed);
  expect(sealer.open("plain")).toBe("plain");
});

test("two processes seal one text differently", () => {
  expect(createSealer(key).seal("secret")).not.toBe(
    createSealer(key).seal("secret"),
  );
});
