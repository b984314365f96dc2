import { describe, expect, test } from "vitest";
import { decodeCursor, encodeCursor } from "./cursor.ts";

describe("a cursor", () => {
  test("comes back as it was, to the microsecond", () => {
    const cursor = {
      createdAt: "2026-02-03T04:05:06.123456+00:00",
      id: "00000000-0000-4000-8000-000000000001",
    };
    expect(decodeCursor(encodeCursor(cursor))).toEqual(cursor);
  });

  test.each([
    "",
    "zzz",
    Buffer.from(
      "2026-13-03T04:05:06Z 00000000-0000-4000-8000-000000000001",
    ).toString("base64url"),
    Buffer.from("2026-02-03T04:05:06Z").toString("base64url"),
    Buffer.from('x"),id.gt.(" y').toString("base64url"),
  ])("is none of ours: %s", (text) => {
    expect(decodeCursor(text)).toBeNull();
  });
});
