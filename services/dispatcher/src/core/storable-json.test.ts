import { expect, test } from "vitest";
import { storableJson } from "./storable-json.ts";

test.each([
  [String.raw`{"a":"x"}`],
  ['{ "n" : 1e999999 }'],
  [String.raw`{"a":"\u00e9\n\\"}`],
  [String.raw`"\ud83d\ude00"`],
  [String.raw`"\uD83D\uDE00 and \uFFFF"`],
  [String.raw`"\\u0000"`],
  [String.raw`"\\\\ud800"`],
])("%s is storable and stays as it is", (json) => {
  expect(storableJson(json)).toBe(json);
});

test.each([
  [String.raw`"a\u0000b"`, '"ab"'],
  [String.raw`{"\u0000":"\u0000\u0000"}`, '{"":""}'],
  [String.raw`"\\\u0000"`, String.raw`"\\"`],
  [String.raw`"\ud800"`, String.raw`"\ufffd"`],
  [String.raw`"\uDC00x"`, String.raw`"\ufffdx"`],
  [String.raw`"\ud800\ud800\udc00"`, String.raw`"\ufffd\ud800\udc00"`],
  [String.raw`"\ud800\u0000\udc00"`, String.raw`"\ufffd\ufffd"`],
  [String.raw`"\u0000\ud83d\ude00"`, String.raw`"\ud83d\ude00"`],
])("%s is stored as %s", (json, stored) => {
  expect(storableJson(json)).toBe(stored);
  expect(() => JSON.parse(stored) as unknown).not.toThrow();
});

test("what is stored holds no NUL and no half of a surrogate pair once it is parsed", () => {
  const stored = storableJson(
    JSON.stringify({ text: "\0 \ud800 \udfff 😀 \\u0000", list: ["\udbff"] }),
  );
  const parsed = JSON.parse(stored) as { text: string; list: string[] };
  expect(parsed).toEqual({
    text: " \ufffd \ufffd 😀 \\u0000",
    list: ["\ufffd"],
  });
});
