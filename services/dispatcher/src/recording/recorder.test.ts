import { databaseFault } from "@pipeline/shared/database-fault";
import { PipelineError } from "@pipeline/shared/errors";
import { createLogger } from "@pipeline/shared/logger";
import type { LogEntry } from "@pipeline/shared/queue/records";
import { expect, test, vi } from "vitest";
import type { AttemptRecord } from "../core/record.ts";
import { createRecorder } from "./recorder.ts";

const CLAIM_IDLE_MS = 60_000;
const GATHER_MS = 50;

const record: AttemptRecord = {
  delivery_id: "d-1",
  attempt: 1,
  attempted_at: "2026-03-01T12:00:00.000Z",
  duration_ms: 12,
  status: "failed",
  response_status: 500,
  response_body: "a body",
  response_headers: { server: "x" },
  error: "HTTP 500",
};
const entry = (name: string, text?: string): LogEntry => ({
  entryId: `${name}-0`,
  deliveryId: name,
  record: text ?? JSON.stringify({ ...record, delivery_id: name }),
});
const refusal = (sqlState = "22P02") =>
  new PipelineError("DATABASE_REFUSED", "invalid input", { sqlState });
const timeout = (sqlState: string) =>
  new PipelineError("DATABASE_UNAVAILABLE", "gave up", { sqlState });
const away = () => new PipelineError("DATABASE_UNAVAILABLE", "no answer");

/** As Postgres sees a call. */
type Row = Partial<AttemptRecord> | string | null;

/** `answer` sees the rows of each call; what it returns are the ids of rows without a delivery. */
function setUp(options: {
  reads?: LogEntry[][];
  claims?: LogEntry[][];
  answer?: (rows: Row[]) => string[];
  /** Throws when the database refuses to close the row. */
  close?: (row: Partial<AttemptRecord>) => void;
  /** Whether an unreadable record is what its delivery waits for. */
  isHome?: boolean;
}) {
  const { reads = [], claims = [], answer = () => [] } = options;
  const { close = () => undefined, isHome = false } = options;
  const closed: Partial<AttemptRecord>[] = [];
  const calls: { name: string; rows: Row[]; count: number }[] = [];
  const recorded: string[][] = [];
  const setAside: { entryId: string; reason: string; now: number }[] = [];
  const asked: (string | number)[][] = [];
  const counted: number[] = [];
  const logger = createLogger("test", "silent");
  let now = 1_000_000;
  const faults = { recorded: null as Error | null };
  const run = createRecorder({
    claimIdleMs: CLAIM_IDLE_MS,
    logger,
    now: () => now,
    monotonic: () => now,
    metrics: {
      recorded: (count) => {
        counted.push(count);
      },
    },
    callWithText: async <Data>(name: string, text: string) => {
      if (name === "close_attempt") {
        closed.push(JSON.parse(text) as AttemptRecord);
        close(closed.at(-1)!);
        return null as Data;
      }
      const { attempts, count } = JSON.parse(text) as {
        attempts: Row[];
        count: number;
      };
      calls.push({ name, rows: attempts, count });
      return answer(attempts) as Data;
    },
    records: {
      prepare: async () => undefined,
      wake: async () => undefined,
      leave: async () => true,
      read: async (...request) => {
        asked.push(["read", ...request]);
        return reads.shift() ?? [];
      },
      claim: async (...request) => {
        asked.push(["claim", ...request]);
        return claims.shift() ?? [];
      },
      recorded: async (entries) => {
        if (faults.recorded !== null) throw faults.recorded;
        recorded.push(entries.map(({ entryId }) => entryId));
        return entries.length;
      },
      isHome: async () => isHome,
      setAside: async ({ entryId }, reason, now) => {
        setAside.push({ entryId, reason, now });
      },
    },
  });
  return {
    run,
    calls,
    recorded,
    setAside,
    closed,
    asked,
    counted,
    logger,
    faults,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

const isOf = (name: string) => (row: Row) =>
  typeof row === "object" && row?.delivery_id === name;
const isFull = (row: Row) => typeof row === "object" && "response_body" in row!;
const idsOf = (rows: Row[]) =>
  rows.map((row) => (row as AttemptRecord).delivery_id);

test("records are written in one call, with their number, and then removed from the log", async () => {
  const { run, calls, recorded, counted } = setUp({
    reads: [[entry("a"), entry("b")]],
  });
  await expect(run()).resolves.toBe(GATHER_MS);
  expect(calls).toEqual([
    {
      name: "record_attempts",
      rows: [
        { ...record, delivery_id: "a" },
        { ...record, delivery_id: "b" },
      ],
      count: 2,
    },
  ]);
  expect(recorded).toEqual([["a-0", "b-0"]]);
  expect(counted).toEqual([2]);
});

test("a round without records calls nobody, and the next may follow at once", async () => {
  const { run, calls, recorded } = setUp({});
  await expect(run()).resolves.toBe(0);
  expect(calls).toEqual([]);
  expect(recorded).toEqual([]);
});

test("a full batch is followed by the next without a pause", async () => {
  const full = Array.from({ length: 500 }, (_, i) => entry(`d-${i}`));
  const { run } = setUp({ reads: [full] });
  await expect(run()).resolves.toBe(0);
});

test("records whose delivery Postgres does not know are done, and told of in the log", async () => {
  const { run, recorded, logger } = setUp({
    reads: [[entry("a"), entry("b")]],
    answer: () => ["b"],
  });
  const warned = vi.spyOn(logger, "warn");
  await run();
  expect(recorded).toEqual([["a-0", "b-0"]]);
  expect(warned.mock.calls).toEqual([
    [{ deliveryIds: ["b"] }, "records.without_delivery"],
  ]);
});

test("a record that Postgres refuses is recorded in plain form, and the others as they are", async () => {
  const { run, calls, recorded, setAside } = setUp({
    reads: [[entry("a"), entry("b"), entry("c")]],
    answer: (rows) => {
      if (rows.some((row) => isOf("b")(row) && isFull(row))) throw refusal();
      return [];
    },
  });
  await run();
  expect(recorded).toEqual([["a-0", "b-0", "c-0"]]);
  expect(setAside).toEqual([]);
  const { rows } = calls.at(-1)!;
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({ delivery_id: "b", response_status: 500 });
  expect(rows[0]).not.toHaveProperty("response_body");
  expect(rows[0]).toHaveProperty(
    "error",
    "HTTP 500 (details left out: invalid input)",
  );
});

test("a record that Postgres refuses in plain form too is set aside, and the others are recorded", async () => {
  const { run, recorded, setAside, counted } = setUp({
    reads: [[entry("a"), entry("b"), entry("c")]],
    answer: (rows) => {
      if (rows.some(isOf("b"))) throw refusal();
      return [];
    },
  });
  await expect(run()).resolves.toBe(GATHER_MS);
  expect(recorded).toEqual([["a-0", "c-0"]]);
  expect(counted).toEqual([2]);
  expect(setAside).toEqual([
    { entryId: "b-0", reason: "invalid input", now: 1_000_000 },
  ]);
});

test.each([
  "null",
  '"text"',
  "[]",
  '{"attempt":1}',
  '{"delivery_id":"b","delivery":1}',
])(
  "what Postgres refuses and is no record is set aside without another try: %s",
  async (text) => {
    const { run, calls, recorded, setAside } = setUp({
      reads: [[entry("b", text)]],
      answer: () => {
        throw refusal();
      },
    });
    await run();
    expect(calls).toHaveLength(1);
    expect(recorded).toEqual([[]]);
    expect(setAside).toEqual([
      {
        entryId: "b-0",
        reason: "record: must be a JSON object that names its delivery",
        now: 1_000_000,
      },
    ]);
  },
);

test.each(["57014", "55P03"])(
  "a record that Postgres gives up on (%s) is left where it is, and the others are recorded",
  async (sqlState) => {
    const { run, recorded, setAside, calls } = setUp({
      reads: [[entry("a"), entry("b"), entry("c")], [entry("d")]],
      answer: (rows) => {
        if (rows.some(isOf("b"))) throw timeout(sqlState);
        return [];
      },
    });
    await expect(run()).resolves.toBe(GATHER_MS);
    expect(recorded).toEqual([["a-0", "c-0"]]);
    expect(setAside).toEqual([]);
    // Not at once: others come first.
    await run();
    expect(idsOf(calls.at(-1)!.rows)).toEqual(["d"]);
  },
);

test("a record whose row somebody holds is tried again after two seconds, then after four, and recorded when the row is free", async () => {
  let isLocked = true;
  const { run, recorded, calls, pass } = setUp({
    reads: [[entry("a"), entry("b")]],
    answer: (rows) => {
      if (isLocked && rows.some(isOf("b"))) throw timeout("55P03");
      return [];
    },
  });
  await run();
  const triesAfter = async (ms: number) => {
    const before = calls.length;
    pass(ms);
    await run();
    return calls.length - before;
  };
  expect(await triesAfter(1999)).toBe(0);
  expect(await triesAfter(1)).toBeGreaterThan(0);
  expect(await triesAfter(3999)).toBe(0);
  isLocked = false;
  expect(await triesAfter(1)).toBe(1);
  expect(recorded).toContainEqual(["b-0"]);
  expect(await triesAfter(60_000)).toBe(0);
});

test("of large records whose rows are held no more are kept than fit; the others are left to a claim", async () => {
  let isLocked = true;
  const response_body = "x".repeat(500_000);
  const { run, calls, pass } = setUp({
    reads: [
      Array.from({ length: 10 }, (_, n) =>
        entry(`${n}`, JSON.stringify({ ...record, response_body })),
      ),
    ],
    answer: () => {
      if (isLocked) throw timeout("55P03");
      return [];
    },
  });
  await run();
  isLocked = false;
  const before = calls.length;
  pass(2000);
  await run();
  const again = calls.slice(before).flatMap(({ rows }) => rows);
  expect(again).toHaveLength(4); // two megabytes
});

test("a record whose plain form times out is left, not set aside", async () => {
  const { run, recorded, setAside } = setUp({
    reads: [[entry("b")]],
    answer: ([row]) => {
      throw isFull(row!) ? refusal() : timeout("57014");
    },
  });
  await run();
  expect(recorded).toEqual([[]]);
  expect(setAside).toEqual([]);
});

test("while Postgres is away the same batch is offered again, and nothing more is read", async () => {
  let isAway = true;
  const { run, calls, recorded, asked } = setUp({
    reads: [[entry("a"), entry("b")], [entry("c")]],
    answer: () => {
      if (isAway) throw away();
      return [];
    },
  });
  await expect(run()).rejects.toThrow("no answer");
  await expect(run()).rejects.toThrow("no answer");
  expect(recorded).toEqual([]);
  isAway = false;
  await run();
  expect(calls.map(({ rows }) => idsOf(rows))).toEqual([
    ["a", "b"],
    ["a", "b"],
    ["a", "b"],
  ]);
  expect(recorded).toEqual([["a-0", "b-0"]]);
  expect(asked).toHaveLength(1);
  await run();
  expect(recorded[1]).toEqual(["c-0"]);
});

test("Postgres going away over a plain form keeps the batch in hand", async () => {
  let isAway = true;
  const { run, recorded, setAside } = setUp({
    reads: [[entry("b")]],
    answer: ([row]) => {
      if (isFull(row!)) throw refusal();
      if (isAway) throw away();
      return [];
    },
  });
  await expect(run()).rejects.toThrow("no answer");
  isAway = false;
  await run();
  expect(recorded).toEqual([["b-0"]]);
  expect(setAside).toEqual([]);
});

test("a batch that is repeated leaves out what was set aside before", async () => {
  const { run, calls, faults, recorded, setAside } = setUp({
    reads: [[entry("a"), entry("b", "null")]],
    answer: (rows) => {
      if (rows.includes(null)) throw refusal();
      return [];
    },
  });
  faults.recorded = new Error("Redis is away");
  await expect(run()).rejects.toThrow("Redis is away");
  faults.recorded = null;
  await run();
  expect(idsOf(calls.at(-1)!.rows)).toEqual(["a"]);
  expect(recorded).toEqual([["a-0"]]);
  expect(setAside).toHaveLength(1);
});

test("now and then a round takes over what another left before it reads", async () => {
  const { run, asked, recorded, pass } = setUp({
    claims: [[entry("a")]],
    reads: [[], [entry("b")]],
  });
  await run();
  pass(1499);
  await run();
  expect(asked).toEqual([
    ["read", 500, 1500],
    ["read", 500, 1500],
  ]);
  pass(1);
  await run();
  expect(asked.slice(2)).toEqual([["claim", 500, CLAIM_IDLE_MS]]);
  await run();
  expect(asked.slice(3)).toEqual([
    ["claim", 500, CLAIM_IDLE_MS],
    ["read", 500, 1500],
  ]);
  pass(1500);
  await run();
  expect(asked.slice(5)).toEqual([
    ["claim", 500, CLAIM_IDLE_MS],
    ["read", 500, 1500],
  ]);
  expect(recorded).toEqual([["b-0"], ["a-0"]]);
});

test("a claim is followed by another at once, until one finds nothing", async () => {
  const full = Array.from({ length: 500 }, (_, n) => entry(`${n}`));
  const { run, asked, pass } = setUp({ claims: [full, [entry("a")], []] });
  pass(1500);
  for (let n = 0; n < 3; n++) await run();
  expect(asked.map(([name]) => name)).toEqual([
    "claim",
    "claim",
    "claim",
    "read",
  ]);
});

const ID = "8f4c2d0e-9a53-4c39-bb9c-0a8a1f4a5a11";
const refuseAll = () => {
  throw refusal("23514");
};

test("the row of a record that Postgres refuses for good is closed before the record is set aside", async () => {
  const recorder = setUp({ reads: [[entry(ID)]], answer: refuseAll });
  await recorder.run();
  const { closed, setAside } = recorder;
  expect(closed).toEqual([
    expect.objectContaining({ delivery_id: ID, attempt: 1, status: "failed" }),
  ]);
  expect(closed[0]).not.toHaveProperty("response_body");
  expect(setAside).toHaveLength(1);
});

test("the least that closes a row is tried when the record itself keeps it from being closed", async () => {
  const recorder = setUp({
    reads: [[entry(ID)]],
    answer: refuseAll,
    close: (row) => {
      if (row.attempt !== undefined) throw refusal("22003");
    },
  });
  await recorder.run();
  expect(recorder.closed.at(-1)).toEqual({
    delivery_id: ID,
    status: "failed",
    error: "its attempt could not be recorded: invalid input",
  });
  expect(recorder.setAside).toHaveLength(1);
});

test.each([refusal("23514"), timeout("55P03")])(
  "a record whose row cannot be closed stays in the log, where it keeps its delivery from being sent (%#)",
  async (fault) => {
    const recorder = setUp({
      reads: [[entry(ID), entry("b")]],
      answer: (rows) => {
        if (rows.some(isOf(ID))) throw refusal("23514");
        return [];
      },
      close: () => {
        throw fault;
      },
    });
    await recorder.run();
    expect(recorder.setAside).toEqual([]);
    expect(recorder.recorded).toEqual([["b-0"]]);
  },
);

test("Postgres going away over the closing of a row keeps the batch in hand", async () => {
  let isAway = true;
  const recorder = setUp({
    reads: [[entry(ID)]],
    answer: refuseAll,
    close: () => {
      if (isAway) throw away();
    },
  });
  await expect(recorder.run()).rejects.toThrow("no answer");
  isAway = false;
  await recorder.run();
  expect(recorder.setAside).toHaveLength(1);
});

test.each([true, false])(
  "a record that cannot be read ends its delivery only when that waits for it (%s)",
  async (isHome) => {
    const reads = [[entry(ID, '"garbage"')]];
    const recorder = setUp({ reads, answer: refuseAll, isHome });
    await recorder.run();
    const ids = recorder.closed.map(({ delivery_id }) => delivery_id);
    expect(ids).toEqual(isHome ? [ID] : []);
    expect(recorder.setAside).toHaveLength(1);
  },
);

test("a batch that is too large for the line is sent in smaller and smaller parts until they pass", async () => {
  const MOST_BYTES = 600_000;
  const large = Array.from({ length: 20 }, (_, i) => {
    const text = {
      ...record,
      delivery_id: `d-${i}`,
      response_body: "x".repeat(240_000),
    };
    return entry(`d-${i}`, JSON.stringify(text));
  });
  const { run, calls, recorded } = setUp({
    reads: [large],
    answer: (rows) => {
      if (JSON.stringify(rows).length > MOST_BYTES) throw away();
      return [];
    },
  });
  const rounds = [];
  for (let n = 0; n < 10 && recorded.flat().length < large.length; n++)
    rounds.push(await run().catch(() => null));
  expect(recorded.flat()).toEqual(large.map(({ entryId }) => entryId));
  expect(rounds.at(-1)).toBe(0);
  expect(Math.max(...calls.map(({ rows }) => rows.length))).toBe(8);
});

test("a batch that a gateway finds too large goes through in halves", async () => {
  const many = Array.from({ length: 8 }, (_, i) => entry(`d-${i}`));
  const { run, recorded, setAside } = setUp({
    reads: [many],
    answer: (rows) => {
      if (rows.length > 2) throw databaseFault(413, { message: "too large" });
      return [];
    },
  });
  await run();
  expect(recorded.flat()).toEqual(many.map(({ entryId }) => entryId));
  expect(setAside).toEqual([]);
});
