// Whatever happens in whatever order, a share counts what runs, never less and never more.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Destination } from "../../services/dispatcher/src/core/destinations.ts";
import {
  createShare,
  type EndpointHealth,
} from "../../services/dispatcher/src/core/share.ts";

const HEALTHS: EndpointHealth[] = [
  "answered",
  "busy",
  "failed",
  "timeout",
  "not asked",
];
const ORIGINS = [null, "a", "b", "c"];

const step = fc.record({
  kind: fc.constantFrom(
    ...(["ask", "ask", "leave", "restart", "review", "hold", "rooms"] as const),
  ),
  endpoint: fc.nat(7),
  origin: fc.nat(3),
  nth: fc.nat(50),
  health: fc.constantFrom(...HEALTHS),
  ms: fc.oneof(fc.nat(50), fc.nat(3000)),
});

test("over thousands of random steps nothing is lost from the counts, and all is free in the end", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 5, 20),
      fc.array(step, { minLength: 50, maxLength: 1000, size: "max" }),
      (slots, steps) => {
        const share = createShare(slots);
        const running: { destination: Destination; startedAt: number }[] = [];
        const destinationOf = (endpoint: number, origin: number) => ({
          endpoint: `e${endpoint}`,
          origin: ORIGINS[(endpoint + (origin === 0 ? 1 : 0)) % 4]!,
        });
        let now = 0;
        const check = () => {
          expect(share.aside()).toBeGreaterThanOrEqual(0);
          expect(share.aside()).toBeLessThanOrEqual(
            Math.min(slots, running.length),
          );
        };
        for (const { kind, endpoint, origin, nth, health, ms } of steps) {
          now += ms;
          const destination = destinationOf(endpoint, origin);
          const each = running[nth % Math.max(1, running.length)];
          if (kind === "ask") {
            // As traffic does: what does not stand aside needs a free slot.
            const free = slots - Math.max(0, running.length - share.aside());
            if (free > 0 && share.ask(destination, now) === "go")
              running.push({ destination, startedAt: now });
          } else if (kind === "review") share.review(now);
          else if (kind === "hold") share.hold(destination.endpoint, now, ms);
          else if (kind === "rooms") {
            const all = Array.from({ length: 8 }, (_, n) =>
              destinationOf(n, origin),
            );
            const rooms = share.rooms(all, now);
            expect(Math.min(...rooms)).toBeGreaterThanOrEqual(0);
            expect(rooms.reduce((a, b) => a + b)).toBeLessThanOrEqual(
              2 * slots,
            );
          } else if (each !== undefined && kind === "restart") {
            share.restart(each.destination, each.startedAt, now);
            each.startedAt = now;
          } else if (each !== undefined) {
            running.splice(running.indexOf(each), 1);
            share.leave(each.destination, each.startedAt, now, health);
          }
          check();
        }
        for (const { destination, startedAt } of running.splice(0))
          share.leave(destination, startedAt, now, "not asked");
        share.review(now);
        expect(share.aside()).toBe(0);
        // As a share that is new would: all that are new hold as much of the slots as they may, neither more nor less.
        const begun = (each: ReturnType<typeof createShare>) => {
          let count = 0;
          for (let n = 0; n < 200; n++) {
            const name = `new${n}`;
            const fresh = { endpoint: name, origin: name };
            if (each.ask(fresh, now) === "go") count++;
          }
          return count;
        };
        expect(begun(share)).toBe(begun(createShare(slots)));
      },
    ),
    { numRuns: 100 },
  );
}, 60_000);
