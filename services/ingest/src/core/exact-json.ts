// JSON whose numbers keep the text they came as. `JSON.parse` turns 9007199254740993 into ...992, 1e400 into Infinity
// (which is written as null) and 1.50 into 1.5; here such a number becomes a raw one, which `JSON.stringify` writes as it
// was.

/** What `JSON.rawJSON` makes of the text of a number. */
export interface RawNumber {
  readonly rawJSON: string;
}

// In every version of Node that runs this, and not yet in TypeScript's library for it.
const { rawJSON, isRawJSON, parse } = JSON as unknown as {
  rawJSON: (text: string) => RawNumber;
  isRawJSON: (value: unknown) => value is RawNumber;
  parse: (
    text: string,
    reviver: (
      key: string,
      value: unknown,
      context: { source?: string },
    ) => unknown,
  ) => unknown;
};

export { isRawJSON as isRawNumber };

/** A number that may change when it is read: 16 digits or more, a fraction, an exponent, or a negative zero. */
const MAY_CHANGE = /(?:^|[:[,])\s*(?:-0|-?\d+[.eE]|-?\d{16})/;

/** `JSON.parse`, with raw numbers for those that would be written differently. Throws SyntaxError. */
export function parseExact(text: string): unknown {
  if (!MAY_CHANGE.test(text)) return JSON.parse(text) as unknown;
  try {
    return parse(text, (_key, value, { source }) =>
      typeof value === "number" &&
      source !== undefined &&
      String(value) !== source
        ? rawJSON(source)
        : value,
    );
  } catch (error) {
    // Unlike JSON.parse alone, the reviver recurses. What is nested so deeply is refused later, so its numbers do not matter.
    if (error instanceof RangeError) return JSON.parse(text) as unknown;
    throw error;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set([0x7b, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);
const BLANKS = new Set([0x20, 0x09, 0x0a, 0x0d]);
const AFTER_A_VALUE = new Set([0x2c, 0x7d, 0x5d, ...BLANKS]);

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (BLANKS.has(text.charCodeAt(at))) at++;
  return at;
}

/** `from`: the opening quote. The end of the string, after the closing one. */
function skipString(text: string, from: number): number {
  let quote = text.indexOf('"', from + 1);
  for (;;) {
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH)
      backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    quote = text.indexOf('"', quote + 1);
  }
}

/** `from`: the first character of a value. Its end. */
function skipValue(text: string, from: number): number {
  let depth = 0;
  let at = from;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (OPENING.has(code)) depth++;
    else if (CLOSING.has(code) && --depth <= 0)
      return depth === 0 ? at + 1 : at;
    else if (depth === 0 && AFTER_A_VALUE.has(code)) return at;
    at++;
  }
  return at;
}

function keyOf(quoted: string): string {
  return quoted.includes("\\")
    ? (JSON.parse(quoted) as string)
    : quoted.slice(1, -1);
}

/**
 * The text of a member of the object in `text`, which must be valid JSON: the last one of that name, as for `JSON.parse`.
 * Null when there is none, or `text` is not an object.
 */
export function memberText(text: string, name: string): string | null {
  let found: string | null = null;
  let at = skipBlanks(text, 0);
  if (text[at] !== "{") return null;
  at = skipBlanks(text, at + 1);
  while (text.charCodeAt(at) === QUOTE) {
    const keyEnd = skipString(text, at);
    const key = keyOf(text.slice(at, keyEnd));
    const start = skipBlanks(text, skipBlanks(text, keyEnd) + 1);
    const end = skipValue(text, start);
    if (key === name) found = text.slice(start, end);
    at = skipBlanks(text, end);
    if (text[at] === ",") at = skipBlanks(text, at + 1);
  }
  return found;
}

/** The texts of the elements of the array in `text`, which must be valid JSON. */
export function elementTexts(text: string): string[] {
  const elements: string[] = [];
  let at = skipBlanks(text, 0);
  if (text[at] !== "[") return elements;
  at = skipBlanks(text, at + 1);
  while (at < text.length && text[at] !== "]") {
    const end = skipValue(text, at);
    elements.push(text.slice(at, end));
    at = skipBlanks(text, end);
    if (text[at] === ",") at = skipBlanks(text, at + 1);
  }
  return elements;
}
