import { defineConfig } from "vitest/config";

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
          name: "integration",
          include: ["test/**/*.test.ts"],
          exclude: ["test/unit/**", "**/node_modules/**"],
          globalSetup: ["test/support/global-setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          // The stack, the services under test and the receivers share the machine with the tests.
          maxWorkers: 2,
          // These tests bound recovery times on whatever machine they run; one that is busy for a moment gets a second try.
          retry: 1,
        },
      },
    ],
  },
});
