import { styleText } from "node:util";

const startedAt = Date.now();

/** Prints the text after the time since the start; further lines of the text are indented. */
export function say(symbol: string, text: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1).padStart(5);
  const indented = text.replaceAll("\n", `\n${" ".repeat(11)}`);
  console.log(`${styleText("dim", `${seconds} s`)}  ${symbol} ${indented}`);
}
