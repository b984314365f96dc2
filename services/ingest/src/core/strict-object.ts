// Objects that refuse fields they do not know. A misspelt optional field that was ignored would lose what it says: a
// `webhook_secret` would send unsigned requests.
import { z } from "zod";

/** Separates the texts for several unknown fields in the one issue that zod makes of them. */
const SEPARATOR = "\n";

const simple = (name: string) => name.toLowerCase().replaceAll(/[^a-z\d]/g, "");

/** Levenshtein's: the fewest letters to insert, delete or replace. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}

const LONGEST_NAME = 50;

/** The name that was probably meant; null when none is near. */
export function nearestName(
  name: string,
  names: readonly string[],
): string | null {
  const given = simple(name.slice(0, LONGEST_NAME));
  if (given === "") return null;
  let nearest: string | null = null;
  let least = Math.max(1, Math.floor(given.length / 3)) + 1;
  for (const each of names) {
    const known = simple(each);
    // `url` is far from `webhookUrl` by letters, and still meant.
    const isPart =
      given.length > 2 && (known.includes(given) || given.includes(known));
    const steps = known === given ? 0 : isPart ? 1 : distance(given, known);
    if (steps < least) [nearest, least] = [each, steps];
  }
  return nearest;
}

function unknownField(name: string, names: readonly string[]): string {
  const nearest = nearestName(name, names);
  return nearest === null
    ? `is not known; the fields are ${names.join(", ")}`
    : `is not known; did you mean ${nearest}?`;
}

export function strictObject<Shape extends z.ZodRawShape>(shape: Shape) {
  const names = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => unknownField(key, names)).join(SEPARATOR)
        : undefined,
  });
}

/** An issue of `strictObject` as one issue per unknown field. */
export function unknownFields(
  issue: z.core.$ZodIssueUnrecognizedKeys,
): { path: PropertyKey[]; message: string }[] {
  const messages = issue.message.split(SEPARATOR);
  return issue.keys.map((key, index) => ({
    path: [...issue.path, key],
    message: messages[index] ?? "is not known",
  }));
}
