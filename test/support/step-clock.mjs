// Loaded into a service before its own code: SIGWINCH sets the process's wall clock an hour forward, again an hour back, and
// so on. Monotonic clocks and timers are as they were, as when somebody sets the clock of a machine.
const RealDate = Date;
const HOUR_MS = 3_600_000;
const steps = [HOUR_MS, -HOUR_MS, 0];
let offsetMs = 0;

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offsetMs);
    else super(...args);
  }

  static now() {
    return RealDate.now() + offsetMs;
  }
};

process.on("SIGWINCH", () => {
  offsetMs = steps.shift() ?? 0;
});
