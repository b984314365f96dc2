import { describe, expect, test } from "vitest";
import {
  elementTexts,
  isRawNumber,
  memberText,
  parseExact,
} from "./exact-json.ts";

describe("numbers", () => {
  test.each([
    "9007199254740993",
    "12345678901234567890",
    "-12345678901234567890",
    "1e400",
    "-1e-400",
    "1E5",
    "1e5",
    "1.0",
    "1.50",
    "0.1000000000000000055511151231257827",
    "-0",
    "-0.0",
    "0",
    "7",
    "-7",
    "0.5",
    "123456789012345",
    "1e21",
    "1.7976931348623157e308",
  ])("%s is written as it was read", (number) => {
    for (const text of [
      number,
      `{"a":${number}}`,
      `[${number},{"b":[${number}]}]`,
    ])
      expect(JSON.stringify(parseExact(text))).toBe(text);
    expect(JSON.stringify(parseExact(` { "a" :\n${number} } `))).toBe(
      `{"a":${number}}`,
    );
  });

  test("are ordinary ones wherever nothing would be lost", () => {
    expect(
      parseExact('{"a":1,"b":[0.5,-3],"c":"1.50, 1.0","d":1e400}'),
    ).toEqual({ a: 1, b: [0.5, -3], c: "1.50, 1.0", d: expect.anything() });
    const { d } = parseExact('{"d":1e400}') as { d: unknown };
    expect(isRawNumber(d)).toBe(true);
    expect(isRawNumber({ rawJSON: "1" })).toBe(false);
  });

  test("of every form are written as they were read", () => {
    const wholes = [
      "0",
      "1",
      "10",
      "120",
      "123456789012345",
      "1234567890123456",
      "9007199254740993",
      "1".repeat(30),
    ];
    const fractions = [
      "",
      ".0",
      ".5",
      ".50",
      ".05",
      ".000001",
      ".0000001",
      ".1234567890123456789",
    ];
    const exponents = ["", "e0", "E5", "e+5", "e-7", "e21", "e400"];
    for (const sign of ["", "-"])
      for (const whole of wholes)
        for (const fraction of fractions)
          for (const exponent of exponents) {
            const number = sign + whole + fraction + exponent;
            expect(JSON.stringify(parseExact(`[${number}]`))).toBe(
              `[${number}]`,
            );
          }
  });

  test.each([
    '{"a":1.0.0}',
    "{1.0:2}",
    "[1.0 2]",
    "[1.0",
    '{"a":1.0',
    '{"a":01.0}',
    '{"a":1.}',
    '{"a":-}',
    '{"a":.50}',
    '["a"1.0]',
    '[1.0"a"]',
    "[1.0a]",
    '[1.0,"',
    '[1.0,"\\"',
  ])("do not make JSON of %s", (text) => {
    expect(() => parseExact(text)).toThrow(SyntaxError);
  });

  test("leave strings, keys and NUL alone", () => {
    for (const text of [
      '{"1.0":"1.0","a":": 1.0, ","\\"b":[1.0,"\\\\",", 1e5"]}',
      '{"__proto__":1.0,"b":{"__proto__":{"x":1e400}}}',
      String.raw`{"a":"\u00001.0","b":1}`,
      String.raw`{"a":"\\u0000","b":1.5}`,
    ])
      expect(JSON.stringify(parseExact(text))).toBe(text);
    expect(
      JSON.stringify(parseExact(String.raw`{"a":"\u00001.0","b":1.50}`)),
    ).toBe(String.raw`{"a":"\u00001.0","b":1.5}`);
  });

  test("do not make deep nesting or a syntax error any other than it was", () => {
    const deep = `${"[".repeat(100_000)}1.0${"]".repeat(100_000)}`;
    expect(Array.isArray(parseExact(deep))).toBe(true);
  });
});

describe("the text of a member", () => {
  test.each([
    ['{"payload":{"a": 1.0}}', '{"a": 1.0}'],
    [
      '\n{ "x" : "}\\"," , "payload"\t: [1 , "]\\\\"] , "y":1 }',
      '[1 , "]\\\\"]',
    ],
    ['{"payload":1e5 ,"y":1}', "1e5"],
    ['{"payload":-1}', "-1"],
    ['{"payload":"a\\\\\\"b"}', '"a\\\\\\"b"'],
    ['{"payload":1,"payload":{"last":"wins"}}', '{"last":"wins"}'],
    ['{"pay\\u006coad":true}', "true"],
    ['{"a":{"payload":1}}', null],
    ['{"payloads":{}}', null],
    ["{}", null],
    ["[1]", null],
    ['"payload"', null],
  ])("of %s is %j", (text, expected) => {
    expect(memberText(text, "payload")).toBe(expected);
    const parsed = JSON.parse(text) as { payload?: unknown };
    if (expected !== null) expect(JSON.parse(expected)).toEqual(parsed.payload);
  });

  test("is found in a long text in no time", () => {
    const long = `"${'\\\\\\"'.repeat(1_000_000)}"`;
    expect(memberText(`{"a":${long},"payload":${long}}`, "payload")).toBe(long);
  }, 2000);
});

test("the elements of an array have their texts", () => {
  expect(elementTexts(' [ {"a": [1, 2]} ,7,"]" , [ ] ] ')).toEqual([
    '{"a": [1, 2]}',
    "7",
    '"]"',
    "[ ]",
  ]);
  expect(elementTexts("[]")).toEqual([]);
  expect(elementTexts("[ ]")).toEqual([]);
  expect(elementTexts("{}")).toEqual([]);
});
