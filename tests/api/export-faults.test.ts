import { createClient } from "@supabase/supabase-js";
import { generateIdentity, identityToRecipient } from "age-encryption";
import type postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../local/edge-runtime.ts";
import { secretKeys } from "../../local/keys.ts";
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { openStore } from "../../supabase/functions/migration-guard/exports/open-store.ts";
import { exportsBucket } from "../../supabase/functions/migration-guard/exports/supabase-store.ts";
import { type Api, credentials, giveRoles, startApi } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { type FaultyProxy, startFaultyProxy } from "../support/faulty-proxy.ts";
import { type S3, startS3 } from "../support/s3.ts";
import { until } from "../support/until.ts";

let s3: S3;
let storage: FaultyProxy;
let api: Api;
let sql: postgres.Sql;
let variables: Record<string, string>;
const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);

beforeAll(async () => {
  s3 = await startS3();
  const port = await freePort();
  storage = await startFaultyProxy(
    `http://127.0.0.1:${port}`,
    (status, code) => ({
      type: "application/json",
      text: JSON.stringify({ statusCode: String(status), code, error: code, message: "no" }),
    }),
    // The function reaches all of the project that way.
    (path) => path.startsWith("/storage/"),
  );
  const { endpoint, region, bucket, accessKeyId, secretAccessKey } = s3.target;
  const target = {
    endpoint,
    region,
    bucket,
    access_key_id: accessKeyId,
    secret_access_key: secretAccessKey,
  };
  const targets = {
    offsite: target,
    wrong_key: { ...target, secret_access_key: "wrong" },
    elsewhere: { ...target, bucket: "no-such-bucket" },
    nowhere: { ...target, endpoint: `http://127.0.0.1:${await freePort()}` },
  };
  const environment = {
    EXPORT_TARGETS: JSON.stringify(targets),
    EXPORT_AGE_IDENTITIES: identity,
    SUPABASE_URL: storage.url,
  };
  const hosts = [s3.url, storage.url, targets.nowhere.endpoint].map((url) => new URL(url).host);
  api = await startApi("with_example", { port, environment, allowNet: hosts });
  variables = {
    ...environment,
    SUPABASE_URL: api.stack.url,
    SUPABASE_DB_URL: "postgresql://postgres@127.0.0.1/postgres",
    SUPABASE_SECRET_KEYS: JSON.stringify(secretKeys),
  };
  ({ database: { sql } } = api);
  await sql`update migration_guard.limits set max_jobs = 1000000, changes_per_minute = 1000000`;
  await giveRoles(api);
  await backUp("v10", examplePlan);
  await sql`create table public.many as select i, repeat(md5(i::text), 20) as text from generate_series(1, 300) as i`;
  await backUp("v1", { tables: ["many"] });
  await sql`create or replace function migration_guard.chunk_bytes() returns bigint language sql immutable
    set search_path = pg_catalog, pg_temp as 'select 20000::bigint'`;
});
afterEach(async () => {
  await s3.mend();
  await storage.mend();
  s3.open("nothing");
});
afterAll(async () => {
  await api?.stop();
  await storage?.stop();
  await s3?.stop();
});

async function backUp(version: string, plan: Record<string, unknown>) {
  expect((await api.call("PUT", `/v1/plans/${version}`, { json: plan })).status).toBeLessThan(300);
  const { json } = await api.call("POST", "/v1/backups", { json: { version }, wait: 60 });
  expect(json).toMatchObject({ status: "succeeded", error: null });
}

/** Asks for something, and gives the job as it has ended. */
async function run(method: string, path: string, json?: unknown, who = credentials.admin) {
  const answer = await api.call(method, path, { json, credentials: who, wait: 60 });
  expect(answer.status, answer.text).toBeLessThan(300);
  if (answer.json.finished_at) return answer.json;
  return await until(async () => {
    const { json: job } = await api.call("GET", `/v1/jobs/${answer.json.id}`);
    return job.finished_at && job;
  });
}
const exportTo = (target: string, version = "v1", recipients: string[] = []) =>
  run("POST", `/v1/backups/${version}/exports`, { target, recipients }, credentials.operator);
const get = async (id: string) => (await api.call("GET", `/v1/exports/${id}`)).json;
const newest = async (version = "v1") => (await api.call("GET", `/v1/backups/${version}/exports`)).json.exports[0];
const open = async (target: string): Promise<ObjectStore> =>
  (await openStore(target, readEnvironment((name) => variables[name])))!;

async function makeExport(target: string, version = "v1", recipients: string[] = []): Promise<string> {
  const job = await exportTo(target, version, recipients);
  expect(job).toMatchObject({ status: "succeeded", error: null, progress: { percent: 100 } });
  return job.result.export;
}

async function expectVerified(id: string) {
  expect(await run("POST", `/v1/exports/${id}/verify`)).toMatchObject({ status: "succeeded", result: { ok: true } });
  expect(await get(id)).toMatchObject({ state: "complete", verified_ok: true });
}

/** The uploads of chunks since then, by name. */
const uploads = (since: number, network: FaultyProxy = s3) =>
  network.requests.slice(since).filter(({ method, path }) => /PUT|POST/.test(method) && path.includes("/data/"))
    .map(({ path }) => path.replace(/.*\//, ""));

describe("a store that fails", () => {
  test.for(
    [["offsite", 500, "InternalError"], ["offsite", 503, "SlowDown"], ["supabase", 500, "InternalError"], [
      "supabase",
      544,
      "DatabaseTimeout",
    ]] as const,
  )("%s with %d for a moment is asked again, and the job succeeds", async ([target, status, code]) => {
    (target === "offsite" ? s3 : storage).fail(3, status, code);
    await expectVerified(await makeExport(target));
  });

  test.for(["offsite", "supabase"])(
    "%s answers slowly, loses the answers of uploads, cuts what is read, and the job succeeds",
    async (target) => {
      const network = target === "offsite" ? s3 : storage;
      network.delay(30);
      const before = network.requests.length;
      const asked = makeExport(target);
      await until(() => Promise.resolve(uploads(before, network).length > 2));
      network.loseAnswers(3);
      const id = await asked;
      network.cutAnswers(4);
      await expectVerified(id);
    },
  );

  const faults: [what: string, code: string, begin: (network: FaultyProxy) => unknown][] = [
    ["is full", "store_full", (network) => network.fail(Infinity, 507, "XMinioStorageFull")],
    ["denies access meanwhile", "store_denied", (network) => network.fail(Infinity, 403, "AccessDenied")],
    ["fails for good", "store_failed", (network) => network.fail(Infinity, 500, "InternalError")],
    ["is not there any more", "store_unreachable", (network) => network.refuse()],
    ["loses its bucket", "bucket_missing", () => s3.removeBucket()],
  ];
  // Storage is reached by the same way as REST, so that it is not refused connections; and its bucket is made again.
  const cases = (["offsite", "supabase"] as const).flatMap((target) =>
    faults.slice(0, target === "offsite" ? 5 : 3).map((fault) => [target, ...fault] as const)
  );
  test.for(cases)(
    "%s %s: the job fails with %s, what is stored stays, and the rest is stored when it is resumed",
    async ([target, , code, begin]) => {
      const network = target === "offsite" ? s3 : storage;
      const before = network.requests.length;
      const asked = api.call("POST", "/v1/backups/v1/exports", { json: { target }, wait: 60 });
      await until(() => Promise.resolve(uploads(before, network).length > 4));
      await begin(network);
      const { json: first } = await asked;
      const job = await until(async () => {
        const { json } = await api.call("GET", `/v1/jobs/${first.id}`);
        return json.finished_at && json;
      });
      expect(job).toMatchObject({
        status: "failed",
        error: { code, message: expect.stringContaining(`Target ${target}`) },
      });
      for (const secret of [s3.target.secretAccessKey, secretKeys.default]) {
        expect(JSON.stringify(job)).not.toContain(
          secret,
        );
      }
      const { export: id } = job.error;
      const left = await get(id);
      expect(left).toMatchObject({ state: "writing", sums_sha256: null, finished_at: null, objects: left.chunks_done });
      expect(left.chunks_done).toBeGreaterThan(0);
      expect(left.chunks_done).toBeLessThan(left.chunks);
      await network.mend();
      if (code === "bucket_missing") return await s3.createBucket();
      const good = (await sql<{ object: string }[]>`
      select object from migration_guard.export_chunks where export_id = ${id} and done_at is not null`)
        .map(({ object }) => object.replace("data/", ""));
      const since = network.requests.length;
      expect(await run("POST", `/v1/exports/${id}/resume`, undefined, credentials.operator)).toMatchObject({
        kind: "export",
        status: "succeeded",
        result: { export: id },
      });
      const written = uploads(since, network);
      expect(written).toHaveLength(left.chunks - left.chunks_done);
      expect(written.filter((name) => good.includes(name))).toEqual([]);
      await expectVerified(id);
    },
  );

  test.for([
    ["wrong_key", "store_denied"],
    ["elsewhere", "bucket_missing"],
    ["nowhere", "store_unreachable"],
  ])("and can be reached by no export: %s is %s", async ([target, code]) => {
    expect(await exportTo(target!)).toMatchObject({
      status: "failed",
      error: { code, message: expect.stringContaining(target!) },
    });
    expect(await newest()).toMatchObject({ state: "writing", chunks_done: 0, objects: 0, bytes: 0, location: null });
  });

  test("and whose bucket is public gets nothing", async () => {
    const before = s3.requests.length;
    s3.open("list");
    expect(await exportTo("offsite")).toMatchObject({ status: "failed", error: { code: "bucket_public" } });
    expect(uploads(before)).toEqual([]);
    s3.open("nothing");
    const { id } = await newest();
    await run("POST", `/v1/exports/${id}/resume`);
    await expectVerified(id);
  });

  test("or is unknown is refused when it is asked for, and nothing is begun", async () => {
    const before = await sql`select from migration_guard.exports`;
    for (const target of ["onsite", "constructor", "__proto__"]) {
      const answer = await api.call("POST", "/v1/backups/v1/exports", { json: { target } });
      expect(answer.json).toMatchObject({
        status: 422,
        code: "target_not_found",
        detail: expect.stringContaining("offsite"),
      });
      expect(answer.text).not.toContain(s3.target.secretAccessKey);
    }
    for (
      const json of [{ target: "" }, { target: "Offsite" }, { target: "a/b" }, { target: null }, { to: "offsite" }]
    ) {
      expect((await api.call("POST", "/v1/backups/v1/exports", { json })).json).toMatchObject({ status: 400 });
    }
    for (
      const recipients of [
        ["age1x"],
        [recipient.toUpperCase()],
        [identity],
        ["ssh-ed25519 AAAA"],
        Array(21).fill(recipient),
      ]
    ) {
      const answer = await api.call("POST", "/v1/backups/v1/exports", { json: { recipients } });
      expect(answer.status).toBe(400);
      expect(answer.text).not.toContain(identity);
    }
    expect((await api.call("POST", "/v1/backups/v99/exports")).json).toMatchObject({ code: "backup_not_found" });
    expect(await sql`select from migration_guard.exports`).toHaveLength(before.length);
  });
});

describe("the project's own Storage", () => {
  const bucket = () => createClient(api.stack.url, secretKeys.default).storage;

  test("is where an export goes that names no target, and whose bucket is made again", async () => {
    const job = await run("POST", "/v1/backups/v10/exports");
    expect(job).toMatchObject({ status: "succeeded", result: { target: "supabase", encrypted: false } });
    await expectVerified(job.result.export);
    expect((await bucket().updateBucket(exportsBucket, { public: true })).error).toBeNull();
    expect(await exportTo("supabase", "v10")).toMatchObject({ status: "failed", error: { code: "bucket_public" } });
    expect(await run("POST", `/v1/exports/${job.result.export}/verify`)).toMatchObject({
      status: "failed",
      error: { code: "bucket_public" },
    });
    expect((await bucket().updateBucket(exportsBucket, { public: false })).error).toBeNull();
    const { id } = await newest("v10");
    await run("POST", `/v1/exports/${id}/resume`);
    await expectVerified(id);
  });

  test("tells of what is missing in it, or is not what it was", async () => {
    const id = await makeExport("supabase", "v10", [recipient]);
    const store = await open("supabase");
    for (const object of ["data/000000-1.copy.gz.age", "manifest.json.age", "restore.sql.age", "SHA256SUMS"]) {
      const good = await store.get(`${id}/${object}`, 10_000_000);
      for (
        const [code, bytes] of [["object_missing", undefined], ["chunk_altered", good.map((byte) => byte ^ 1)], [
          "chunk_altered",
          good.slice(1),
        ]] as const
      ) {
        await store.remove([`${id}/${object}`]);
        if (bytes) await store.put(`${id}/${object}`, bytes);
        expect(await run("POST", `/v1/exports/${id}/verify`)).toMatchObject({
          status: "failed",
          error: { code, message: expect.stringContaining(object) },
        });
        expect(await get(id)).toMatchObject({ state: "complete", verified_ok: false });
      }
      await store.remove([`${id}/${object}`]);
      await store.put(`${id}/${object}`, good);
    }
    expect(await run("POST", `/v1/exports/${id}/verify`, { stored_only: true })).toMatchObject({
      status: "succeeded",
      result: { ok: true, stored_only: true },
    });
    await expectVerified(id);
  });
});

test("a request that comes again with its Idempotency-Key makes no second export", async () => {
  const ask = (json: unknown, path = "/v1/backups/v1/exports", key = "night-1") =>
    api.call("POST", path, { json, headers: { "idempotency-key": key } });
  const [first, second] = await Promise.all([ask({ target: "offsite" }), ask({ target: "offsite" })]);
  expect(second.json.id).toBe(first.json.id);
  expect((await ask({ target: "supabase" })).json).toMatchObject({ status: 409, code: "idempotency_key_reused" });
  await until(async () => (await newest()).state === "complete");
  const { id } = await newest();
  expect((await ask({ target: "offsite" })).json).toMatchObject({ id: first.json.id, status: "succeeded" });
  expect((await newest()).id).toBe(id);
  const verifications = await Promise.all([1, 2].map(() => ask({}, `/v1/exports/${id}/verify`, "night-2")));
  expect(verifications[0]!.json.id).toBe(verifications[1]!.json.id);
  await until(async () => (await get(id)).verified_ok);
});

test("a cancel ends an export at once, and it goes on when it is resumed", async () => {
  s3.delay(100);
  const before = s3.requests.length;
  const { json: job } = await api.call("POST", "/v1/backups/v1/exports", { json: { target: "offsite" } });
  await until(() => Promise.resolve(uploads(before).length > 3));
  const percent = (await api.call("GET", `/v1/jobs/${job.id}`)).json.progress.percent;
  expect(percent).toBeGreaterThan(0);
  expect(percent).toBeLessThan(100);
  await api.call("DELETE", `/v1/jobs/${job.id}`, { credentials: credentials.operator });
  const { json: cancelled } = await api.call("GET", `/v1/jobs/${job.id}`);
  expect(cancelled).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
  await s3.mend();
  const { id } = await newest();
  expect(cancelled.error.export).toBe(id);
  expect(await run("POST", `/v1/exports/${id}/resume`)).toMatchObject({
    status: "succeeded",
    progress: { percent: 100 },
  });
  await expectVerified(id);
  expect((await api.call("POST", `/v1/exports/${id}/resume`)).json).toMatchObject({
    status: 409,
    code: "export_in_use",
  });
});

test("a connection that is lost while a chunk is stored costs that chunk, and neither the job nor the function", async () => {
  s3.delay(200);
  const before = s3.requests.length;
  const { json: job } = await api.call("POST", "/v1/backups/v1/exports", { json: { target: "offsite" } });
  for (const count of [2, 5]) {
    await until(() => Promise.resolve(uploads(before).length >= count));
    await sql`
      select pg_terminate_backend(pid, 5000) from pg_stat_activity
      where datname = current_database() and application_name = 'migration-guard'`;
  }
  s3.delay(0);
  const ended = await until(async () => {
    const { json } = await api.call("GET", `/v1/jobs/${job.id}`);
    return json.finished_at && json;
  });
  expect(ended).toMatchObject({ status: "succeeded", error: null });
  const { export: id } = ended.result;
  const tries = await sql<{ attempts: number }[]>`
    select attempts from migration_guard.export_chunks where export_id = ${id} order by attempts desc`;
  expect(tries.map(({ attempts }) => attempts).reduce((sum, one) => sum + one - 1, 0)).toBeLessThanOrEqual(2);
  expect(tries[0]!.attempts).toBeGreaterThan(1);
  await expectVerified(id);
});

describe("whoever asks", () => {
  const { viewer, operator, admin } = credentials;
  const status = async (who: Record<string, string>, method: string, path: string, json?: unknown) => {
    const answer = await api.call(method, path, { json, credentials: who });
    return [answer.status, answer.json?.code];
  };

  test("reads with every role, writes as an operator, and removes as an admin", async () => {
    const id = await makeExport("offsite");
    for (const who of [viewer, operator, admin]) {
      const { json } = await api.call("GET", `/v1/exports/${id}`, { credentials: who });
      expect(json).toMatchObject({ id, version: "v1.0", target: "offsite", state: "complete", actor: "night_shift" });
      expect(json).toMatchObject({
        location: expect.stringContaining("/exports"),
        sums_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      });
      expect(json.bytes).toBeGreaterThan(1000);
      expect(json.text_bytes).toBeGreaterThan(json.bytes);
      const { json: list } = await api.call("GET", "/v1/backups/v1/exports", { credentials: who });
      expect(list.exports[0]).toEqual(json);
    }
    const remove = { confirm: id, token: "token" };
    const refused = [403, "role_required"];
    expect(await status(viewer, "POST", "/v1/backups/v1/exports")).toEqual(refused);
    for (const who of [viewer, operator]) {
      expect(await status(who, "GET", `/v1/exports/${id}/removal-plan`)).toEqual(refused);
      expect(await status(who, "DELETE", `/v1/exports/${id}`, remove)).toEqual(refused);
    }
    for (const path of ["verify", "resume"]) {
      expect(await status(viewer, "POST", `/v1/exports/${id}/${path}`)).toEqual(refused);
    }
    const unknown = id.replace(/.{8}$/, "00000000");
    expect(await status(viewer, "GET", `/v1/exports/${unknown}`)).toEqual([404, "export_not_found"]);
    for (const path of ["verify", "resume"]) {
      expect(await status(operator, "POST", `/v1/exports/${unknown}/${path}`)).toEqual([404, "export_not_found"]);
    }
    expect(await status(admin, "GET", `/v1/exports/${unknown}/removal-plan`)).toEqual([404, "export_not_found"]);
    expect(await status(admin, "DELETE", `/v1/exports/${unknown}`, remove)).toEqual([404, "export_not_found"]);
    expect(await status(admin, "DELETE", `/v1/exports/${id}`, remove)).toEqual([409, "cleanup_refused"]);
    for (const odd of ["x", `${id}x`, "../jobs", "v1.0-20261129T113335Z-8F3A2B1C"]) {
      expect((await status(admin, "GET", `/v1/exports/${encodeURIComponent(odd)}`))[0]).toBeGreaterThanOrEqual(400);
    }
  });

  test("removes one behind its guards, or with an override that the trail keeps", async () => {
    const id = await makeExport("offsite", "v10");
    const { json: plan } = await api.call("GET", `/v1/exports/${id}/removal-plan`);
    expect(plan).toMatchObject({ id, allowed: false, two_keys: false, token: expect.any(String) });
    const { json: refusal } = await api.call("DELETE", `/v1/exports/${id}`, {
      json: { confirm: id, token: plan.token },
    });
    expect(refusal).toMatchObject({ status: 409, code: "cleanup_refused" });
    const failed = refusal.guards.filter(({ passed }: { passed: boolean }) => !passed);
    expect(failed.map(({ guard }: { guard: string }) => guard)).toEqual(["migration_confirmed", "retention_passed"]);
    await api.call("POST", "/v1/backups/v10/confirm", { json: { note: "done" } });
    const override = { guard: "retention_passed", reason: "The customer asked for erasure." };
    const job = await run("DELETE", `/v1/exports/${id}`, { confirm: id, token: plan.token, override });
    expect(job).toMatchObject({
      kind: "remove_export",
      status: "succeeded",
      result: { removed: true },
      progress: { percent: 100, unit: "objects" },
    });
    expect(await get(id)).toMatchObject({ state: "removed", removed_by: "default", verified_ok: null });
    const store = await open("offsite");
    for (const object of ["SHA256SUMS", "manifest.json", "restore.sql", "data/000000-1.copy.gz"]) {
      await expect(store.get(`${id}/${object}`, 1e7)).rejects.toMatchObject({ code: "object_missing" });
    }
    const { json: trail } = await api.call("GET", "/v1/audit?action=export.remove");
    expect(trail.entries.find(({ outcome }: { outcome: string }) => outcome === "done")).toMatchObject({
      actor: "default",
      parameters: { export: id, override },
    });
    expect(JSON.stringify(trail)).not.toContain(plan.token);
    for (const path of ["verify", "resume"]) {
      expect(await status(operator, "POST", `/v1/exports/${id}/${path}`)).toEqual([409, "export_in_use"]);
    }
    expect(await status(admin, "POST", "/v1/imports", { export: id, into: "v12" })).toEqual([409, "export_in_use"]);
  });

  test("removes one although the store fails on the way, by asking again", async () => {
    const id = await makeExport("offsite", "v10");
    await api.call("POST", "/v1/backups/v10/confirm", { json: { note: "done" } });
    await sql`update migration_guard.backups set confirmed_at = now() - interval '30 days' where confirmed_at is not null`;
    const remove = async () => {
      const { json: { token } } = await api.call("GET", `/v1/exports/${id}/removal-plan`);
      return await run("DELETE", `/v1/exports/${id}`, { confirm: id, token });
    };
    s3.fail(Infinity, 403, "AccessDenied");
    const failed = await remove();
    expect(failed).toMatchObject({ status: "failed", error: { code: "store_denied" } });
    expect(await get(id)).toMatchObject({ state: "removing" });
    await s3.mend();
    expect(await remove()).toMatchObject({ status: "succeeded", result: { removed: true } });
    expect(await get(id)).toMatchObject({ state: "removed" });
  });
});
