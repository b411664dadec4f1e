import process from "node:process";
import { defineConfig } from "vitest/config";
import { LongestFirst } from "./tests/support/longest-first.ts";

export default defineConfig({
  test: {
    // Another Postgres is for the SQL alone to tell (`npm run test:15`).
    include: [process.env.POSTGRES_MAJOR ? "tests/sql/**/*.test.ts" : "tests/{api,sql,unit}/**/*.test.ts"],
    globalSetup: ["tests/support/global-setup.ts"],
    reporters: ["default", "tests/support/summary-reporter.ts"],
    // Tests assert behaviour, not durations: a slow machine must not fail them.
    testTimeout: 120_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    pool: "forks",
    maxWorkers: 2,
  },
});
