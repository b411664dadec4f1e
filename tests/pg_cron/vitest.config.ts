import { defineConfig } from "vitest/config";
import base from "../../vitest.config.ts";

// These wait for the minutes of a real pg_cron, and need Debian's packages: a run of their own.
export default defineConfig({ test: { ...base.test, include: ["tests/pg_cron/**/*.test.ts"] } });
