import { describe, expect, test } from "vitest";
import { headLength, parseHead } from "./answer-head.ts";

const parse = (text: string) => parseHead(Buffer.from(text, "latin1"));

describe("the length of a head", () => {
  test.each([
    ["HTTP/1.1 200 OK\r\n\r\n", 19],
    ["HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\n", 19],
    ["HTTP/1.1 200 OK\n\nbody\r\n\r\n", 17],
    ["HTTP/1.1 200 OK\n\r\nbody", 18],
    ["HTTP/1.1 200 OK\r\na: b\n\nbody", 23],
    ["HTTP/1.1 200 OK\r\n", -1],
    ["HTTP/1.1 200 OK\r\n\r", -1],
    ["", -1],
  ])("of %j is %d", (text, length) => {
    expect(headLength(Buffer.from(text))).toBe(length);
  });
});

test("status, headers and length are read", () => {
  const text = "HTTP/1.1 429 Too Many\r\nRetry-After:  7 \r\nX:\r\n\r\nbody";
  expect(parse(text)).toEqual({
    status: 429,
    headers: { "retry-after": "7", x: "" },
    length: text.length - "body".length,
  });
});

test("headers that come several times are joined", () => {
  const text = "HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nA: 3\r\n\r\n";
  expect(parse(text)?.headers).toEqual({ a: "1, 3", b: "2" });
});

test("of a head that is cut off, whole lines count", () => {
  expect(parse("HTTP/1.1 200 OK\r\na: 1\r\nretry-after: 12")).toEqual({
    status: 200,
    headers: { a: "1" },
    length: null,
  });
});

test("lines that are no headers are passed over", () => {
  const text =
    "HTTP/1.1 200 OK\r\nno colon\r\nx y: z\r\n folded\r\na: 1\r\n\r\n";
  expect(parse(text)?.headers).toEqual({ a: "1" });
});

test.each([
  "HTTP/1.1 200\r\n",
  "HTTP/1.0 200 OK\r\n",
  "HTTP/1.1 200 \n",
  "HTTP/1.1  200 OK\r\n",
  "HTTP/1.1 200 \xc4rger\r\n",
])("%j is a status line", (line) => {
  expect(parse(line)?.status).toBe(200);
});

test.each([
  "",
  "HTTP/1.1 200 OK",
  "HTTP/1.1 20\r\n",
  "HTTP/1.1 2000 OK\r\n",
  "HTTP/1.1 abc\r\n",
  "ICY 200 OK\r\n",
  "\r\nHTTP/1.1 200 OK\r\n",
  "220 mail.example ESMTP\r\n",
])("%j is no status line", (line) => {
  expect(parse(line)).toBeNull();
});

test("64 KiB of blanks take no time", { timeout: 500 }, () => {
  const text = `HTTP/1.1 200 OK\r\na:${" ".repeat(65_000)}b\r\n\r\n`;
  expect(parse(text)?.headers).toEqual({ a: "b" });
});
