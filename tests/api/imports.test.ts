import { generateIdentity, identityToRecipient } from "age-encryption";
import { expect } from "vitest";
import { type Api, credentials, giveRoles, startApi, test as base } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { until } from "../support/until.ts";

const identity = await generateIdentity();
const schema = "migration_backup_v10";
type Exported = { export: string; manifest: string };

/** An API whose function has an identity, and an export of the example's backup for it in Storage. */
const test = base.extend("exported", { scope: "file" }, async ({}, { onCleanup }) => {
  const api = await startApi("with_example", { environment: { EXPORT_AGE_IDENTITIES: identity } });
  onCleanup(api.stop);
  await giveRoles(api);
  await api.call("PUT", "/v1/plans/v10", { json: examplePlan });
  await succeed(api, "/v1/backups", { version: "v10" });
  const json = { recipients: [await identityToRecipient(identity)] };
  return { ...api, ...await succeed(api, "/v1/backups/v10/exports", json) as Exported };
});

async function succeed({ call }: Api, path: string, json?: unknown): Promise<Record<string, unknown>> {
  const { json: job } = await call("POST", path, { json, wait: 60 });
  expect(job).toMatchObject({ status: "succeeded", error: null });
  return job.result;
}

/** As somebody does by mistake. */
const lose = ({ database: { sql } }: Api, name = schema) => sql.unsafe(`drop schema ${name} cascade`);

test("a backup that was lost is made again, with one request", async ({ exported }) => {
  const { call, manifest, export: id } = exported;
  const json = { export: id, into: "v10", expected_manifest: manifest };
  expect(await call("POST", "/v1/imports", { json })).toMatchObject({ status: 409, json: { code: "backup_exists" } });
  const { rows_backed_up } = (await call("GET", "/v1/backups/v10")).json.metadata;

  await lose(exported);
  expect((await call("GET", "/v1/backups/v10")).json).toMatchObject({ state: "missing" });
  expect(await succeed(exported, "/v1/imports", json)).toMatchObject({
    ...{ schema, version: "v10.0", manifest, export: id, backup_id: expect.any(String) },
    ...{ rows: rows_backed_up, tables: examplePlan.tables.length },
  });
  const { json: backup } = await call("GET", "/v1/backups/v10");
  expect(backup).toMatchObject({ state: "fresh", verified_ok: true, manifest });
  expect(await succeed(exported, "/v1/backups/v10/verify", { expected_manifest: manifest })).toMatchObject({
    ok: true,
  });
  expect(await succeed(exported, "/v1/backups/v10/diff")).toMatchObject({ is_clean: true });

  const { json: { entries } } = await call("GET", "/v1/audit?action=import");
  expect(entries[0]).toMatchObject({
    actor: "default",
    version: "v10.0",
    parameters: { export: id, expected_manifest: manifest },
  });
  const { json: { jobs } } = await call("GET", "/v1/jobs");
  expect(jobs.find(({ kind }: { kind: string }) => kind === "import").progress).toMatchObject({
    step: "done",
    percent: 100,
  });
});

test("what was imported can be exported again", async ({ exported }) => {
  const { export: id, manifest } = await succeed(exported, "/v1/backups/v10/exports", {}) as Exported;
  expect(manifest).toBe(exported.manifest);
  await lose(exported);
  expect(await succeed(exported, "/v1/imports", { export: id, into: "v10.0" })).toMatchObject({ manifest, export: id });
});

test("it is an admin's, and told at once what it lacks", async ({ exported: { call, export: id } }) => {
  const json = { export: id, into: "v12" };
  for (const role of ["viewer", "operator"] as const) {
    expect(await call("POST", "/v1/imports", { json, credentials: credentials[role] })).toMatchObject({
      status: 403,
      json: { code: "role_required", required: "admin" },
    });
  }
  for (
    const wrong of [
      { ...json, into: "ten" },
      { ...json, export: "../x" },
      { ...json, target: "a b" },
      { ...json, expected_manifest: "x" },
      { ...json, more: 1 },
      { export: id },
      {},
    ]
  ) {
    expect(await call("POST", "/v1/imports", { json: wrong })).toMatchObject({
      status: 400,
      json: { code: "invalid_request" },
    });
  }
});

test("an export that nobody has made, or that is of another backup, is refused by its job", async ({ exported }) => {
  const { call, database, export: id } = exported;
  const expectRefused = async (json: object, code: string) => {
    const { json: job } = await call("POST", "/v1/imports", { json, wait: 60 });
    expect(job).toMatchObject({ status: "failed", error: { code } });
    await until(async () =>
      (await database.sql`select from pg_namespace where nspname ~ '^migration_(import_|backup_v12)'`).length === 0
    );
  };
  await expectRefused({ export: "v10.0-20261129T113335Z-00000000", into: "v12" }, "export_not_found");
  await lose(exported);
  await expectRefused({ export: id, into: "v12", expected_manifest: "0".repeat(64) }, "manifest_unexpected");
  await succeed(exported, "/v1/imports", { export: id, into: "v10" });
});

test("an export whose backup is there is refused at once, whatever it is to be imported into", async ({ exported }) => {
  const { call, export: id } = exported;
  for (const into of ["v10", "v12"]) {
    expect(await call("POST", "/v1/imports", { json: { export: id, into } })).toMatchObject({
      status: 409,
      json: { code: "backup_exists" },
    });
  }
});

test("of a target that the function does not know there is no job", async ({ exported: { call, export: id } }) => {
  const { json: { jobs } } = await call("GET", "/v1/jobs");
  const json = { export: id, into: "v12", target: "elsewhere" };
  expect(await call("POST", "/v1/imports", { json })).toMatchObject({
    status: 422,
    json: { code: "target_not_found" },
  });
  expect((await call("GET", "/v1/jobs")).json.jobs).toHaveLength(jobs.length);
});

test("the same request twice, with an Idempotency-Key, is one import", async ({ exported }) => {
  await lose(exported);
  const options = { json: { export: exported.export, into: "v10" }, headers: { "idempotency-key": "import-1" } };
  const [one, other] = await Promise.all([1, 2].map(() => exported.call("POST", "/v1/imports", options)));
  expect(one!.json.id).toBe(other!.json.id);
  await until(async () => (await exported.call("GET", `/v1/jobs/${one!.json.id}`)).json.status === "succeeded");
});
