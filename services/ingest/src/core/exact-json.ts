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

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const PART_OF_A_NUMBER = /[\d+.eE-]*/y;
const AFTER_A_NUMBER = new Set([",", "]", "}", undefined]);
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;

// NUL can stand in JSON only as this escape, so that in a text without it no string begins with NUL.
const NUL = String.raw`\u0000`;

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
    } else if (code === MINUS || (code >= ZERO && code <= NINE)) {
      PART_OF_A_NUMBER.lastIndex = at;
      const [number] = PART_OF_A_NUMBER.exec(text)!;
      const start = at;
      at += number.length;
      if (String(Number(number)) === number) continue;
      // Marked, `1.0.0` or a key `1.0` would be good JSON.
      if (!NUMBER.test(number)) return null;
      if (!AFTER_A_NUMBER.has(text[skipBlanks(text, at)])) return null;
      parts.push(text.slice(kept, start), `"${NUL}${number}"`);
      kept = at;
    } else {
      at++;
    }
  }
  if (kept === 0) return null;
  parts.push(text.slice(kept));
  return parts.join("");
}

const isMarked = (value: unknown): value is string =>
  typeof value === "string" && value.startsWith("\0");

/** Puts raw numbers in the places of the marked ones. Without recursion, however deep the nesting is. */
function unmark(root: unknown): unknown {
  if (isMarked(root)) return rawJSON(root.slice(1));
  const left: unknown[] = [root];
  while (left.length > 0) {
    const container = left.pop();
    if (typeof container !== "object" || container === null) continue;
    for (const [key, value] of Object.entries(container)) {
      if (!isMarked(value)) left.push(value);
      // Not by assignment: a key may be __proto__.
      else
        Object.defineProperty(container, key, {
          value: rawJSON(value.slice(1)),
          enumerable: true,
          writable: true,
          configurable: true,
        });
    }
  }
  return root;
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
