// Everything that may happen, in any order.
import fc from "fast-check";
import { DELIVERIES } from "./command.ts";
import * as consumers from "./consumer-commands.ts";
import * as queue from "./queue-commands.ts";

export const CONSUMERS = ["a", "b", "c"];

const delivery = fc.constantFrom(...DELIVERIES);
const consumer = fc.constantFrom(...CONSUMERS);
const kind = fc.constantFrom(...consumers.KINDS);
const n = fc.nat(3);
const settle = fc
  .tuple(consumer, n, kind)
  .map((args) => consumers.settle(...args));

const wait = fc
  .tuple(consumer, n, fc.constantFrom("wait" as const, "rewait" as const))
  .map((args) => consumers.settle(...args));
const read = fc
  .tuple(consumer, fc.integer({ min: 1, max: 4 }))
  .map((args) => consumers.read(...args));
const admit = consumer.map(consumers.admit);

export const allCommands = [
  delivery.map(queue.enqueue),
  delivery.map(queue.addByHand),
  // More often than anything else: only what has been read and admitted can be settled, and late and repeated settlements
  // are what can go wrong.
  read,
  read,
  read,
  admit,
  admit,
  admit,
  settle,
  settle,
  settle,
  wait,
  wait,
  fc.tuple(consumer, n).map((args) => consumers.claim(...args)),
  consumer.map(consumers.heartbeat),
  fc.tuple(consumer, n).map((args) => consumers.release(...args)),
  consumer.map(consumers.removeConsumer),
  delivery.map(queue.makeDue),
  fc.integer({ min: 1, max: 5 }).map(queue.promote),
  fc.tuple(delivery, fc.boolean()).map((args) => queue.reinject(...args)),
  delivery.map(queue.sendAgain),
  n.map(queue.replay),
  fc.integer({ min: 1, max: 3 }).map(queue.letOut),
  fc.integer({ min: 1, max: 3 }).map(queue.letOut),
  fc.constant(null).map(queue.turns),
  fc.constant(null).map(queue.lookAhead),
  delivery.map(queue.cancel),
  fc.integer({ min: 1, max: 3 }).map(queue.record),
  delivery.map(queue.trim),
  fc.constant(null).map(queue.homeless),
];
