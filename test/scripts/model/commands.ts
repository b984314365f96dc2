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

export const allCommands = [
  delivery.map(queue.enqueue),
  delivery.map(queue.addByHand),
  fc
    .tuple(consumer, fc.integer({ min: 1, max: 4 }))
    .map((args) => consumers.read(...args)),
  consumer.map(consumers.admit),
  // Twice as often as anything else: late and repeated settlements are what can go wrong.
  settle,
  settle,
  fc.tuple(consumer, n).map((args) => consumers.claim(...args)),
  consumer.map(consumers.heartbeat),
  fc.tuple(consumer, n).map((args) => consumers.release(...args)),
  consumer.map(consumers.removeConsumer),
  delivery.map(queue.makeDue),
  fc.integer({ min: 1, max: 5 }).map(queue.promote),
  fc.tuple(delivery, fc.boolean()).map((args) => queue.reinject(...args)),
  delivery.map(queue.sendAgain),
  n.map(queue.replay),
  delivery.map(queue.cancel),
  fc.integer({ min: 1, max: 3 }).map(queue.record),
  delivery.map(queue.trim),
  fc.constant(null).map(queue.homeless),
];
