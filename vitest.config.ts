import { defineConfig } from "vitest/config";

/** Files that promise how soon or how often something happens, so that a busy machine can make them fail. */
const TIMING = [
  "test/crash/{clock,hostile-day,redis,supabase,windows}.test.ts",
  "test/dispatcher/{answers,back-pressure,dns,hostile-receivers,idle,isolation,limits,neighbours,resolver,retries,shutdown,slow-lookups,stale-connections}.test.ts",
  "test/ingest/{locked-rows,outages}.test.ts",
  "test/retry-scheduler/{deletions,service}.test.ts",
  "test/scripts/limits.test.ts",
];

const integration = {
  globalSetup: ["test/support/global-setup.ts"],
  testTimeout: 60_000,
  hookTimeout: 120_000,
  // The stack, the services under test and the receivers share the machine with the tests.
  maxWorkers: 2,
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "{services,packages}/*/src/**/*.test.ts",
            "test/unit/**/*.test.ts",
          ],
        },
      },
      {
        test: {
          ...integration,
          name: "invariants",
          include: ["test/**/*.test.ts"],
          exclude: ["test/unit/**", "**/node_modules/**", ...TIMING],
          // Nothing lost, nothing doubled, nobody let in: what fails once has failed.
          retry: 0,
        },
      },
      {
        test: {
          ...integration,
          name: "timing",
          include: TIMING,
          // These bound recovery times and rates on whatever machine they run; one that is busy for a moment gets a second try.
          retry: 1,
        },
      },
    ],
  },
});
