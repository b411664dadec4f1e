import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { secretKeys } from "../../local/keys.ts";
import { test } from "../support/api.ts";
import { exampleFolder } from "../support/example.ts";

const runbook = readFileSync(join(import.meta.dirname, "..", "..", "docs", "runbooks", "v10.0.md"), "utf8");
const blocks = [...runbook.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);

test("every line of the v10.0 runbook does what it says, from the backup to the cleanup", async ({ freshApi, skip }) => {
  if (spawnSync("psql", ["--version"]).status !== 0) skip("psql is not installed: apt-get install postgresql-client");
  const { database, stack } = freshApi;
  const folder = mkdtempSync(join(tmpdir(), "runbook-"));
  const variables = join(folder, "variables");
  const url = databaseUrl({ port: database.port, database: database.name });

  /** Runs one block in the folder that the runbook names; what it exports is there for the next. */
  async function run(block: string) {
    const script = `[ ! -f '${variables}' ] || . '${variables}'\n${block}\nexport -p > '${variables}'`;
    // The gateway runs in this process, which must go on meanwhile.
    const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
      cwd: exampleFolder,
      env: { PATH: process.env.PATH, API: stack.functionUrl, KEY: secretKeys.default, DATABASE_URL: url },
    });
    return stdout;
  }

  const outputs: string[] = [];
  for (const block of blocks) {
    // The second try is right.
    if (block.includes("/confirm")) await run(blocks.find((each) => each.startsWith("psql"))!);
    // Two weeks pass.
    if (block.includes("TOKEN=")) {
      await database.sql`update migration_guard.backups set confirmed_at = confirmed_at - interval '15 days'`;
    }
    outputs.push(await run(block));
  }
  rmSync(folder, { recursive: true });

  const [
    ,
    ready,
    derived,
    plan,
    preflight,
    backup,
    followed,
    verified,
    metadata,
    exported,
    exportVerified,
    checklist,
    migration,
    verifiedAgain,
    diff,
    rollbackPlan,
    rollbackScript,
    rehearsal,
    rollback,
    rolledBack,
    confirmed,
    ,
    cleanupPlan,
    removed,
    restored,
  ] = outputs;
  expect(JSON.parse(ready!)).toMatchObject({ status: "ready", worker: "function" });
  expect(JSON.parse(derived!)).toMatchObject({
    plan: { tables: expect.arrayContaining(["profiles", "coordinator_notes"]) },
    warnings: [],
  });
  expect(JSON.parse(preflight!)).toMatchObject({ can_back_up: true });
  expect(JSON.parse(plan!)).toMatchObject({ version: "v10.0", actor: "default" });
  expect(JSON.parse(backup!)).toMatchObject({ status: "succeeded", result: { tables_backed_up: 4 } });
  expect(followed).toMatch(/backup v10\.0 succeeded after \d+s\.\n$/);
  expect(JSON.parse(verified!)).toMatchObject({ status: "succeeded", result: { ok: true } });
  expect(JSON.parse(exported!)).toMatchObject({
    status: "succeeded",
    result: { target: "supabase", encrypted: false },
  });
  expect(JSON.parse(exportVerified!)).toMatchObject({ status: "succeeded", result: { ok: true } });
  expect(JSON.parse(metadata!).manifest).toMatch(/^[0-9a-f]{64}$/);
  expect(JSON.parse(checklist!)).toMatchObject({ ready: true });
  expect(migration).toContain("COMMIT");
  expect(JSON.parse(verifiedAgain!)).toMatchObject({ status: "succeeded", result: { ok: true } });
  expect(JSON.parse(diff!)).toMatchObject({
    status: "succeeded",
    result: { is_clean: false, summary: { rows: { inserted: 0, updated: 0, deleted: 0 } } },
  });
  expect(JSON.parse(rollbackPlan!)).toMatchObject({ possible: true, new_objects: expect.any(Array) });
  expect(rollbackScript).toContain(`plan ${JSON.parse(rollbackPlan!).plan_hash}.\n`);
  expect(JSON.parse(rehearsal!)).toMatchObject({ status: "succeeded", result: { rehearsed: true } });
  expect(JSON.parse(rollback!)).toMatchObject({
    status: "succeeded",
    result: { rehearsed: false, no_op: false, catalog: { identical: true } },
  });
  expect(JSON.parse(rolledBack!)).toMatchObject({ state: "rolled_back", rolled_back_by: "default" });
  expect(JSON.parse(confirmed!)).toMatchObject({ state: "migrated", confirmed_by: "default" });
  // The plan is drawn before the two weeks have passed in this test, so that it shows the guard that blocks.
  expect(JSON.parse(cleanupPlan!)).toMatchObject({ allowed: false });
  expect(JSON.parse(removed!)).toMatchObject({
    status: "succeeded",
    result: { removed: false, purge_after: expect.any(String) },
  });
  expect(JSON.parse(restored!)).toMatchObject({
    schema: "migration_backup_v10",
    confirmed_by: "default",
    trashed_at: null,
  });
  expect(outputs).toHaveLength(25);

  const [left] = await database
    .sql`select to_regnamespace('migration_backup_v10') as backup, to_regclass('public.curator_notes') as notes`;
  expect(left).toEqual({ backup: "migration_backup_v10", notes: "curator_notes" });
});

test("each line of the runbook that asks the API ends with an error when it refuses", async ({ api }) => {
  const lines = blocks.flatMap((block) => block.split("\n")).filter((line) => line.includes("curl "));
  const id = "00000000-0000-4000-8000-000000000000";
  const env = { API: api.stack.functionUrl, KEY: "sb_secret_of_nobody", JOB: id, EXPORT: id, PLAN_HASH: id, TOKEN: id };
  const ended = await Promise.all(
    lines.map((line) =>
      promisify(execFile)("bash", ["-c", `${blocks[0]}${line}`], {
        cwd: exampleFolder,
        env: { ...process.env, ...env },
      })
        .then(
          () => line,
          ({ code, stdout }) => [code, stdout.includes("invalid_credentials") || line.includes("| sed")],
        )
    ),
  );
  expect(ended).toEqual(lines.map(() => [22, true]));
});
