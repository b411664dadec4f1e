import { expect } from "vitest";
import { serviceRoleKey } from "../../local/keys.ts";
import { type Api, type CallOptions, credentials, giveRoles, test as base } from "../support/api.ts";

/** `test` with an API on which a viewer and an operator have their roles, and nobody else was given one. */
const test = base.extend("guarded", async ({ freshApi }) => {
  await giveRoles(freshApi);
  return freshApi;
});

const as = ({ call }: Api, role: keyof typeof credentials) => (method: string, path: string, options?: CallOptions) =>
  call(method, path, { ...options, credentials: credentials[role] });

test("a role is given, told, and taken away", async ({ guarded: { call } }) => {
  const given = await call("PUT", "/v1/keys/night-shift", { json: { role: "admin" } });
  expect(given).toMatchObject({
    status: 200,
    json: { name: "night-shift", role: "admin", is_assigned: true, updated_by: "default" },
  });
  expect(given.json.updated_at).toMatch(/^\d{4}-\d\d-\d\dT.*\+00:00$/);
  expect((await call("GET", "/v1/keys")).json.keys.map(({ name, role }: Record<string, string>) => `${name} ${role}`))
    .toEqual(["default admin", "night-shift admin", "night_shift operator", "service_role admin", "watcher viewer"]);
  expect((await call("GET", "/v1/keys/night-shift")).json).toEqual(given.json);
  expect((await call("DELETE", "/v1/keys/night-shift")).status).toBe(204);
  expect((await call("GET", "/v1/keys/night-shift")).json).toEqual({
    ...{ name: "night-shift", role: "viewer", is_assigned: false, updated_at: null, updated_by: null },
  });
  expect((await call("DELETE", "/v1/keys/night-shift")).json).toMatchObject({ status: 404, code: "key_not_found" });
});

test("a key over its role is told which one would do", async ({ guarded }) => {
  const refused = await as(guarded, "viewer")("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  expect(refused).toMatchObject({
    status: 403,
    json: { code: "role_required", role: "viewer", required: "operator", detail: expect.stringContaining("watcher") },
  });
  expect((await as(guarded, "operator")("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } })).status).toBe(201);
});

test("a role counts from the next request on, in every isolate, and without a restart", async ({ guarded }) => {
  const put = () => as(guarded, "viewer")("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  expect((await put()).status).toBe(403);
  await guarded.call("PUT", "/v1/keys/watcher", { json: { role: "operator" } });
  expect((await put()).status).toBe(201);
  await guarded.call("DELETE", "/v1/keys/watcher");
  expect((await put()).status).toBe(403);
});

test("default and the token of service_role can be lowered once there is another admin, who cannot", async ({ guarded }) => {
  const { call } = guarded;
  const lower = (name: string) => call("PUT", `/v1/keys/${name}`, { json: { role: "viewer" } });
  const token = { authorization: `Bearer ${serviceRoleKey}` };
  const lastAdmin = { status: 409, code: "last_admin" };
  expect((await lower("default")).json).toMatchObject(lastAdmin);
  expect((await call("PUT", "/v1/keys/night_shift", { json: { role: "admin" } })).status).toBe(200);
  expect((await lower("default")).json).toMatchObject(lastAdmin);
  const byToken = { json: { role: "viewer" }, credentials: token };
  expect((await call("PUT", "/v1/keys/default", byToken)).json).toMatchObject(lastAdmin);
  expect((await lower("service_role")).status).toBe(200);
  expect((await call("GET", "/v1/keys", { credentials: token })).json).toMatchObject({ code: "role_required" });
  const byAdmin = { json: { role: "viewer" }, credentials: credentials.operator };
  expect((await call("PUT", "/v1/keys/default", byAdmin)).status).toBe(200);
  expect((await call("GET", "/v1/keys")).json).toMatchObject({ status: 403, role: "viewer", required: "admin" });
  const asAdmin = as(guarded, "operator");
  expect((await asAdmin("DELETE", "/v1/keys/night_shift")).json).toMatchObject({ status: 409, code: "last_admin" });
  expect((await asAdmin("DELETE", "/v1/keys/default")).status).toBe(204);
  expect((await call("DELETE", "/v1/keys/night_shift")).status).toBe(204);
});

test.for(["Night", "night shift", " sb_secret_x", "sb_secret_x", "a\nb", "9lives", "x".repeat(65), "\u00e9"])(
  "a key is not called %j",
  async (name, { api: { call } }) => {
    const answer = await call("PUT", `/v1/keys/${encodeURIComponent(name)}`, { json: { role: "viewer" } });
    expect(answer.json).toMatchObject({ status: 400, code: "invalid_request" });
  },
);

test("values of rows are asked for and seen by an admin alone", async ({ guarded }) => {
  const { database: { sql } } = guarded;
  const wait = 60;
  const operate = as(guarded, "operator");
  await operate("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  expect((await operate("POST", "/v1/backups", { json: { version: "v1" }, wait })).json.status).toBe("succeeded");
  await sql`update public.profiles set name = 'SECRET' where id = (select min(id::text)::uuid from public.profiles)`;
  const wish = { sample_keys: 1, include_values: true };
  expect((await operate("POST", "/v1/backups/v1/diff", { json: wish })).json).toMatchObject({
    code: "role_required",
    required: "admin",
  });
  const seen = await guarded.call("POST", "/v1/backups/v1/diff", { json: wish, wait });
  expect(seen.text).toContain("SECRET");
  const job = `/v1/jobs/${seen.json.id}`;
  const readers = [[operate, { values_hidden: true }], [as(guarded, "viewer"), { samples_hidden: true }]] as const;
  for (const [read, hidden] of readers) {
    for (const path of [job, "/v1/jobs", "/v1/jobs?version=v1", `${job}/events`, "/v1/backups/v1"]) {
      const answer = await read("GET", path);
      expect(answer.status, path).toBe(200);
      expect(answer.text, path).not.toContain("SECRET");
    }
    expect((await read("GET", job)).json.result).toMatchObject({ ...hidden, is_clean: false });
  }
  expect((await guarded.call("GET", job)).text).toContain("SECRET");
});

test("a HEAD is refused where a GET is", async ({ guarded }) => {
  const operate = as(guarded, "operator");
  await operate("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  await operate("POST", "/v1/backups", { json: { version: "v1" }, wait: 60 });
  expect((await operate("HEAD", "/v1/backups/v1/cleanup-plan")).status).toBe(403);
  expect(await guarded.database.sql`select from migration_guard.cleanup_tokens`).toHaveLength(0);
});

test.for([[{}], [{ role: "owner" }], [{ role: "admin", name: "x" }], [[]], [null]])(
  "a role of the form %j is refused",
  async ([json], { api: { call } }) => {
    expect((await call("PUT", "/v1/keys/watcher", { json })).json).toMatchObject({
      status: 400,
      code: "invalid_request",
    });
  },
);
