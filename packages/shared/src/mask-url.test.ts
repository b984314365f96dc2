import { expect, test } from "vitest";
import { maskUrl } from "./mask-url.ts";

test.each([
  [
    "https://hooks.zapier.com/hooks/catch/1/secret/",
    "https://hooks.zapier.com/***",
  ],
  ["https://a.test/?token=secret", "https://a.test/***"],
  ["https://a.test", "https://a.test/"],
  ["http://user:secret@a.test:8080/x#secret", "http://a.test:8080/***"],
  ["not a url with a secret", "(invalid URL)"],
  [null, null],
])("%s is shown as %s", (url, shown) => {
  expect(maskUrl(url)).toBe(shown);
});
