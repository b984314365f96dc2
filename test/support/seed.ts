// Random choices that can be made again: SEED=… gives a run the seed that an earlier one printed.
import { createHash, randomInt } from "node:crypto";

const MOST = 2 ** 31 - 1; // what fast-check takes

export function readSeed(): number {
  const text = process.env["SEED"];
  if (text === undefined || text === "") return randomInt(MOST);
  const seed = Number(text);
  if (!Number.isInteger(seed) || seed < 0 || seed > MOST)
    throw new Error(`SEED must be a whole number from 0 to ${MOST}`);
  return seed;
}

/** A stand-in for Math.random whose numbers follow from the seed; another label gives another sequence. */
export function createRandom(seed: number, label = ""): () => number {
  let drawn = 0;
  return () =>
    createHash("sha256")
      .update(`${seed} ${label} ${drawn++}`)
      .digest()
      .readUInt32BE() /
    2 ** 32;
}
