import type { Stack, StackOptions } from "./stack.ts";

export async function dockerAnswers(): Promise<boolean> {
  return false;
}

export async function startContainers(
  _options: StackOptions & { onProgress: (line: string) => void },
): Promise<Stack> {
  throw new Error("not yet");
}
