// JSON whose numbers keep the text they came as. `JSON.parse` turns 9007199254740993 into ...992, 1e400 into Infinity
// (which is written as null) and 1.50 into 1.5; here such a number becomes a raw one, which `JSON.stringify` writes as it
// was.

/** What `JSON.rawJSON` makes of the text of a number. */
export interface RawNumber {
  readonly rawJSON: string;
}

// In every version of Node that runs this, and not yet in TypeScript's library for it.
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON: (text: string) => RawNumber;
  isRawJSON: (value: unknown) => value is RawNumber;
};

export { isRawJSON as isRawNumber };

// Characters are compared as numbers, one by one: with sets, or a regular expression, reading 16 MiB of numbers took 5 s.
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;

/** In the order of their codes. */
const FIRST_BRACKET = 0x5b;

const isBlank = (code: number) =>
  code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
const isOpening = (code: number) => code === 0x7b || code === 0x5b;
const isClosing = (code: number) => code === 0x7d || code === 0x5d;
const isDigit = (code: number) => code >= ZERO && code <= NINE;
const isExponent = (code: number) => code === 0x65 || code === 0x45;

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (isBlank(text.charCodeAt(at))) at++;
  return at;
}

/** `from`: the opening quote. The end of the string, after the closing one. */
function skipString(text: string, from: number): number {
  let quote = text.indexOf('"', from + 1);
  while (quote !== -1) {
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH)
      backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    quote = text.indexOf('"', quote + 1);
  }
  return text.length;
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
    // Most of what stands between brackets.
    if (depth > 0 && code < FIRST_BRACKET) {
      at++;
      continue;
    }
    if (isOpening(code)) depth++;
    else if (isClosing(code)) {
      if (depth === 0) return at;
      if (--depth === 0) return at + 1;
    } else if (depth === 0 && (code === COMMA || isBlank(code))) return at;
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

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const AFTER_A_NUMBER = new Set([",", "]", "}", undefined]);
/** Up to 15 digits and a point are always read and written as they are, */
const SAFE_LENGTH = 15;
/** unless there is an exponent, a zero at the end of a fraction or a sign before a zero, or the number is very small. */
const SMALL = "0.00000";

// NUL can stand in JSON only as this escape, so that in a text without it no string begins with NUL.
const NUL = String.raw`\u0000`;

/** The end of the number that begins at `from`, and whether it may be written differently when it was read. */
function skipNumber(
  text: string,
  from: number,
): [end: number, isDoubtful: boolean] {
  let at = from;
  let hasPoint = false;
  let hasExponent = false;
  for (; ; at++) {
    const code = text.charCodeAt(at);
    if (isDigit(code)) continue;
    if (code === POINT) hasPoint = true;
    else if (isExponent(code)) hasExponent = true;
    else if (code !== MINUS && code !== 0x2b) break;
  }
  const isNegative = text.charCodeAt(from) === MINUS;
  return [
    at,
    hasExponent ||
      at - from > SAFE_LENGTH ||
      (hasPoint &&
        (text.charCodeAt(at - 1) === ZERO ||
          text.startsWith(SMALL, isNegative ? from + 1 : from))) ||
      (isNegative && at - from === 2 && text.charCodeAt(at - 1) === ZERO),
  ];
}

/**
 * The text with each number that would change as a string that begins with NUL. Null when there is none, or it is not JSON.
 */
function markNumbers(text: string): string | null {
  const parts: string[] = [];
  let kept = 0;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    if (code !== MINUS && !isDigit(code)) {
      at++;
      continue;
    }
    const [end, isDoubtful] = skipNumber(text, at);
    const start = at;
    at = end;
    if (!isDoubtful) continue;
    const number = text.slice(start, end);
    if (String(Number(number)) === number) continue;
    // Marked, `1.0.0` or a key `1.0` would be good JSON.
    if (!NUMBER.test(number)) return null;
    if (!AFTER_A_NUMBER.has(text[skipBlanks(text, end)])) return null;
    parts.push(text.slice(kept, start), `"${NUL}${number}"`);
    kept = end;
  }
  if (kept === 0) return null;
  parts.push(text.slice(kept));
  return parts.join("");
}

const isMarked = (value: unknown): value is string =>
  typeof value === "string" && value.startsWith("\0");

/** Puts raw numbers in the places of the marked ones. Without recursion, however deep the nesting is. */
function unmark(root: unknown): unknown {
  const left: unknown[] = [];
  const unmarked = (value: unknown): unknown => {
    if (isMarked(value)) return rawJSON(value.slice(1));
    if (typeof value === "object" && value !== null) left.push(value);
    return value;
  };
  const result = unmarked(root);
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const container = next as Record<string, unknown>;
    if (Array.isArray(container)) {
      for (let i = 0; i < container.length; i++)
        container[i] = unmarked(container[i]);
      continue;
    }
    for (const key of Object.keys(container)) {
      const value = unmarked(container[key]);
      if (value === container[key]) continue;
      // Not by assignment: the key may be __proto__.
      const property = { value, enumerable: true, writable: true };
      Object.defineProperty(container, key, {
        ...property,
        configurable: true,
      });
    }
  }
  return result;
}

/**
 * `JSON.parse`, with raw numbers for those that would be written differently. Throws SyntaxError. A reviver would do the same
 * in a tenth of the lines; it takes ten times as long as parsing does, and recurses.
 */
export function parseExact(text: string): unknown {
  // A text with NUL in it is refused later, so its numbers do not matter.
  const marked = text.includes(NUL) ? null : markNumbers(text);
  return marked === null
    ? (JSON.parse(text) as unknown)
    : unmark(JSON.parse(marked));
}
