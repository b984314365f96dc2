import { sweep } from "./sweep.ts";

// --orphans stops only what belongs to processes that are gone.
const live = !process.argv.includes("--orphans");
const report = await sweep({ live });
console.log(
  report.length === 0 ? "Nothing was left running." : report.join("\n"),
);
