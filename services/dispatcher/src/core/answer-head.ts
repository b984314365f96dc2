// The head of an HTTP/1 answer, read from its bytes. The HTTP parser reads it as well; this is for answers that the parser
// refuses or never gets whole, and whose status counts all the same.

export interface AnswerHead {
  status: number;
  /** Names in lower case; what came several times is joined with commas. Headers that were cut off are left out. */
  headers: Record<string, string>;
  /** Bytes up to and including the empty line; null when that has not come. */
  length: number | null;
}

const CR = 0x0d;
const LF = 0x0a;
const STATUS_LINE = /^HTTP\/\d(?:\.\d)? +(\d{3})(?: .*)?$/;
const HEADER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(.*)$/;

/** Bytes up to and including the empty line that ends a head; -1 while it has not come. Bare LF counts as a line's end. */
export function headLength(bytes: Buffer): number {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== LF) continue;
    if (bytes[i + 1] === LF) return i + 2;
    if (bytes[i + 1] === CR && bytes[i + 2] === LF) return i + 3;
  }
  return -1;
}

/** Null unless the bytes begin with a whole status line. */
export function parseHead(bytes: Buffer): AnswerHead | null {
  const length = headLength(bytes);
  const head = length === -1 ? bytes : bytes.subarray(0, length);
  // What follows the last line break is a line that was cut off.
  const lines = head.toString("latin1").split(/\r?\n/).slice(0, -1);
  const status = STATUS_LINE.exec(lines[0] ?? "")?.[1];
  if (status === undefined) return null;
  const headers: Record<string, string> = {};
  for (const line of lines.slice(1)) {
    const [, written, content] = HEADER_LINE.exec(line) ?? [];
    if (written === undefined || content === undefined) continue;
    const name = written.toLowerCase();
    const value = content.trim();
    const before = headers[name];
    headers[name] = before === undefined ? value : `${before}, ${value}`;
  }
  return {
    status: Number(status),
    headers,
    length: length === -1 ? null : length,
  };
}
