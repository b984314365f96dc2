import { startProcesses } from "./processes.ts";
import type { Stack, StackOptions } from "./stack.ts";

export interface StartOptions extends Partial<StackOptions> {
  /** "auto" takes containers when Docker answers and has or can pull the images, and processes otherwise. */
  kind?: Stack["kind"] | "auto";
}

export async function startStack({
  kind = "auto",
  onProgress = () => undefined,
  ...options
}: StartOptions = {}): Promise<Stack> {
  if (kind !== "processes") {
    // Loaded only when needed: it takes half a second, which a stack of processes can do without.
    const { startContainers, whyNoContainers } =
      await import("./containers.ts");
    const reason =
      kind === "auto" ? await whyNoContainers(onProgress) : undefined;
    if (reason === undefined)
      return startContainers({ ...options, onProgress });
    onProgress(`no containers (${reason}): using local processes`);
  }
  return startProcesses({ ...options, onProgress });
}
