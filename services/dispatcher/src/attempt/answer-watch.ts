// Sees the bytes of each answer on a connection before the HTTP parser does, because the parser keeps to itself what the
// outcome of an attempt needs: whether anything came at all, and the status of an answer that it then refuses.
//
// The head of an answer is held back until it is whole, so that a head which is refused in its middle can still be read to
// its end. Informational answers (1xx) are taken out: the parser breaks off at a 100 that nobody asked for.
import type { Socket } from "node:net";
import { type AnswerHead, headLength, parseHead } from "../core/answer-head.ts";

/** Bounds what a receiver can make this process hold. */
export const LONGEST_HEAD_BYTES = 64 * 1024;
const MOST_INFORMATIONAL_ANSWERS = 100;
const PREFIX = Buffer.from("HTTP/");
/** Of "HTTP/1.1 200", the first digit of the status. */
const STATUS_OFFSET = 9;
const DIGIT_1 = 0x31;
const CR = 0x0d;
const LF = 0x0a;
/** The longest end of a head is "\r\n\r\n"; all of it but a byte may be in the chunk before. */
const OVERLAP_BYTES = 3;

export class BadAnswerError extends Error {
  override readonly name = "BadAnswerError";
  readonly code = "ERR_BAD_ANSWER";
}

export interface AnswerWatch {
  readonly socket: Socket;
  /** A request is about to be written: what comes from now on is its answer. */
  begin: () => void;
  /** The parser has read the head, which then need not be kept. */
  forget: () => void;
  /** Whether a byte has come since `begin`. */
  isHeard: () => boolean;
  /** What has come of the answer since `begin`, if its status line is there and the answer is a final one. */
  head: () => (AnswerHead & { rest: Buffer }) | null;
}

/** Must be called before the socket is given to the HTTP client, which reads it with `socket.read()` only. */
export function watchAnswers(socket: Socket): AnswerWatch {
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
  /** Bytes of the head, held back or just passed on. */
  let chunks: Buffer[] = [];
  let bytes = 0;
  /** The last bytes of the chunks, in which the end of the head may have begun. */
  let tail: Buffer = Buffer.alloc(0);
  let isInHead = false;
  let isHeard = false;
  let informational = 0;

  function pass(head: Buffer): Buffer {
    chunks = [head];
    isInHead = false;
    return head;
  }

  function refuse(reason: string): null {
    isInHead = false;
    socket.destroy(new BadAnswerError(reason));
    return null;
  }

  /** `end` is the head's length in `answer`. Returns what the parser is to see; null when more must come first. */
  function headIsWhole(answer: Buffer, end: number): Buffer | null {
    if (answer[STATUS_OFFSET] !== DIGIT_1) return pass(answer);
    if (++informational > MOST_INFORMATIONAL_ANSWERS)
      return refuse("informational answers without end");
    chunks = [];
    bytes = 0;
    return end === answer.length ? null : take(answer.subarray(end));
  }

  function beginsLikeHttp(): boolean {
    const start = chunks[0]!.length < PREFIX.length ? joined() : chunks[0]!;
    for (let i = 0; i < start.length && i < PREFIX.length; i++)
      if (start[i] !== PREFIX[i]) return false;
    return true;
  }

  function joined(): Buffer {
    const [only, ...more] = chunks;
    return more.length === 0 && only !== undefined
      ? only
      : Buffer.concat(chunks);
  }

  function take(chunk: Buffer): Buffer | null {
    if (chunks.length === 0) {
      // Receivers that count their bodies wrong leave line breaks between answers; the parser skips them as well.
      let start = 0;
      while (chunk[start] === CR || chunk[start] === LF) start++;
      const answer = start === 0 ? chunk : chunk.subarray(start);
      if (answer.length === 0) return null;
      chunks = [answer];
      bytes = answer.length;
      if (!beginsLikeHttp()) return pass(answer); // the parser says what is wrong with it
      const end = headLength(answer);
      if (end !== -1) return headIsWhole(answer, end);
      tail = answer.subarray(-OVERLAP_BYTES);
    } else {
      const overlapped = Buffer.concat([tail, chunk]);
      chunks.push(chunk);
      const before = bytes - tail.length;
      bytes += chunk.length;
      tail = overlapped.subarray(-OVERLAP_BYTES);
      if (before < PREFIX.length && !beginsLikeHttp()) return pass(joined());
      const end = headLength(overlapped);
      if (end !== -1) return headIsWhole(joined(), before + end);
    }
    return bytes > LONGEST_HEAD_BYTES
      ? refuse("the headers are longer than 64 KiB")
      : null;
  }

  socket.read = (size?: number) => {
    if (!isInHead || size !== undefined) return read(size);
    for (;;) {
      const chunk = read();
      if (chunk === null) return null;
      isHeard = true;
      const passed = take(chunk);
      if (passed !== null || !isInHead) return passed;
    }
  };

  return {
    socket,
    begin: () => {
      chunks = [];
      bytes = 0;
      informational = 0;
      isInHead = true;
      isHeard = false;
    },
    forget: () => {
      chunks = [];
    },
    isHeard: () => isHeard,
    head: () => {
      if (chunks.length === 0) return null;
      const answer = joined();
      const head = parseHead(answer);
      if (head === null || head.status < 200) return null;
      const rest = answer.subarray(head.length ?? answer.length);
      return { ...head, rest };
    },
  };
}
