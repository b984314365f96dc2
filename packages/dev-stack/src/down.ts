import { sweep } from "./children.ts";

const report = await sweep({ live: true });
console.log(
  report.length === 0 ? "Nothing was left running." : report.join("\n"),
);
