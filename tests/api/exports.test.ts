import { createClient } from "@supabase/supabase-js";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { secretKeys } from "../../local/keys.ts";
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";
import { openStore } from "../../supabase/functions/migration-guard/exports/open-store.ts";
import { exportsBucket } from "../../supabase/functions/migration-guard/exports/supabase-store.ts";
import { type Api, startApi, test } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { type S3, startS3 } from "../support/s3.ts";

let s3: S3;
let api: Api;
let identity: string;
let recipient: string;

const environment = () => ({
  EXPORT_TARGETS: JSON.stringify({
    offsite: {
      endpoint: s3.target.endpoint,
      region: s3.target.region,
      bucket: s3.target.bucket,
      access_key_id: s3.target.accessKeyId,
      secret_access_key: s3.target.secretAccessKey,
    },
  }),
  EXPORT_AGE_IDENTITIES: identity,
});

beforeAll(async () => {
  s3 = await startS3();
  identity = await generateIdentity();
  recipient = await identityToRecipient(identity);
  api = await startApi("with_example", {
    environment: environment(),
    allowNet: [new URL(s3.target.endpoint).host],
    onLog: (text) => process.stdout.write(text),
  });
  await api.call("PUT", "/v1/plans/v10", { json: examplePlan });
  const backup = await api.call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 });
  expect(backup.json).toMatchObject({ status: "succeeded", error: null });
});
afterAll(async () => {
  await api?.stop();
  await s3?.stop();
});

/** The store behind a target, with the function's own eyes. */
const store = (target: string) => {
  const variables: Record<string, string> = {
    ...environment(),
    SUPABASE_URL: api.stack.url,
    SUPABASE_DB_URL: "postgresql://postgres@127.0.0.1/postgres",
    SUPABASE_SECRET_KEYS: JSON.stringify(secretKeys),
  };
  return openStore(target, readEnvironment((name) => variables[name]));
};

async function exportBackup(json: Record<string, unknown>) {
  const { json: job } = await api.call("POST", "/v1/backups/v10/exports", { json, wait: 60 });
  expect(job).toMatchObject({ kind: "export", status: "succeeded", error: null });
  return job.result as { export: string; sums_sha256: string; manifest: string; rows: number; objects: number };
}

/** Fetches a folder, by what its own sums name. */
async function download(target: string, id: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-export-"));
  const { get } = (await store(target))!;
  const sums = new TextDecoder().decode(await get(`${id}/SHA256SUMS`, 1_000_000));
  const names = sums.split("\n").filter(Boolean).map((line) => line.slice(66));
  for (const name of ["SHA256SUMS", ...names]) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), await get(`${id}/${name}`, 10_000_000));
  }
  return folder;
}

describe.for(
  [
    ["supabase", false],
    ["supabase", true],
    ["offsite", false],
    ["offsite", true],
  ] as const,
)("an export to %s, encrypted: %s", ([target, isEncrypted]) => {
  let made: Awaited<ReturnType<typeof exportBackup>>;
  beforeAll(async () => {
    made = await exportBackup({ target, recipients: isEncrypted ? [recipient] : [] });
  });

  test("is listed, and passes its verification", async () => {
    const { json: { exports } } = await api.call("GET", "/v1/backups/v10.0/exports");
    expect(exports[0]).toMatchObject({
      id: made.export,
      target,
      state: "complete",
      recipients: isEncrypted ? [recipient] : [],
      sums_sha256: made.sums_sha256,
      manifest: made.manifest,
      rows: made.rows,
      objects: made.objects,
      verified_ok: null,
    });
    const [{ rows }] = await api.database.sql<[{ rows: number }]>`
      select (select rows_backed_up + objects_backed_up + tables_backed_up + 1 from migration_backup_v10.backup_metadata)::int
        + (select count(*) from migration_backup_v10.dependencies_backup)::int as rows`;
    expect(made.rows).toBe(rows);
    expect(exports[0].chunks_done).toBe(exports[0].chunks);
    const { json: job } = await api.call("POST", `/v1/exports/${made.export}/verify`, { wait: 60 });
    expect(job).toMatchObject({ kind: "verify_export", status: "succeeded", error: null, result: { ok: true } });
    expect((await api.call("GET", `/v1/exports/${made.export}`)).json.verified_ok).toBe(true);
  });

  test("is restored without the product, by the script of docs/export-format.md", async ({ database }) => {
    const folder = await download(target, made.export);
    const [, script] = /```sh\n(#![^`]+)```/.exec(
      readFileSync(join(import.meta.dirname, "../../docs/export-format.md"), "utf8"),
    )!;
    expect(script!.trim().split("\n").length).toBeLessThanOrEqual(10);
    writeFileSync(join(folder, "restore.sh"), script!);
    writeFileSync(join(folder, "identity.txt"), `${identity}\n`);
    const url = databaseUrl({ port: database.port, database: database.name });
    const run = (sum: string) =>
      spawnSync("bash", [join(folder, "restore.sh"), folder, sum, url, join(folder, "identity.txt")], {
        encoding: "utf8",
      });
    const refused = run("0".repeat(64));
    expect(refused.status).not.toBe(0);
    expect(await database.sql`select to_regnamespace('migration_backup_v10')::text as schema`).toMatchObject([
      { schema: null },
    ]);
    const restored = run(made.sums_sha256);
    expect(restored.stderr).toBe("");
    expect(restored.status).toBe(0);
    const checks = await database.sql`select * from migration_backup_v10.verify_backup_integrity()`;
    expect(checks.filter(({ status }) => status !== "OK")).toEqual([]);
    expect(checks.length).toBeGreaterThan(5);
    const [{ manifest }] = await database.sql<[{ manifest: string }]>`
      select migration_backup_v10.compute_manifest() as manifest`;
    expect(manifest).toBe(made.manifest);
    rmSync(folder, { recursive: true });
  });

  if (!isEncrypted) return;

  test("shows nothing to who holds the bucket", async () => {
    const folder = await download(target, made.export);
    const words = "coordinator|profiles|create table|migration-guard-export";
    // 1: nothing was found.
    expect(spawnSync("grep", ["-rqaE", words, join(folder, "data"), folder]).status).toBe(1);
  });
});

test("its bucket in Storage is private", async () => {
  const { storage } = createClient(api.stack.url, secretKeys.default!);
  expect((await storage.getBucket(exportsBucket)).data?.public).toBe(false);
});
