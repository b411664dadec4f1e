import { expect } from "vitest";
import { secretKeys, serviceRoleKey } from "../../local/keys.ts";
import { startApi, test } from "../support/api.ts";

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test("a project needs neither a publishable key called default nor any secret key", async ({ onTestFinished }) => {
  const keys: [name: string, environment: Record<string, string>, credentials: Record<string, string>][] = [
    ["no publishable key", { SUPABASE_PUBLISHABLE_KEYS: "{}" }, { apikey: secretKeys.default }],
    ["one of another name", { SUPABASE_PUBLISHABLE_KEYS: '{"web": "sb_publishable_web"}' }, {
      apikey: secretKeys.default,
    }],
    ["an empty secret key", { SUPABASE_SECRET_KEYS: '{"default": ""}' }, bearer(serviceRoleKey)],
    ["legacy keys alone", { SUPABASE_SECRET_KEYS: "", SUPABASE_PUBLISHABLE_KEYS: "" }, bearer(serviceRoleKey)],
  ];
  for (const [name, environment, credentials] of keys) {
    const api = await startApi("with_product", { environment });
    onTestFinished(api.stop);
    expect((await api.call("GET", "/v1/plans", { credentials })).json, name).toEqual({ plans: [] });
  }
});

test("a named secret key gives its name to what it does", async ({ onTestFinished }) => {
  const api = await startApi("with_example", {
    secretKeys: { ...secretKeys, night_shift: "sb_secret_of_the_night_shift" },
  });
  onTestFinished(api.stop);
  const credentials = { apikey: "sb_secret_of_the_night_shift" };
  expect((await api.call("PUT", "/v1/keys/night_shift", { json: { role: "operator" } })).status).toBe(200);
  expect((await api.call("PUT", "/v1/plans/v3", { credentials, json: { tables: ["profiles"] } })).status).toBe(201);
  const job = await api.call("POST", "/v1/backups", { credentials, json: { version: "v3" }, wait: 60 });
  expect(job.json).toMatchObject({ status: "succeeded", actor: "night_shift" });
  expect((await api.call("GET", "/v1/backups/v3")).json).toMatchObject({
    actor: "night_shift",
    metadata: { actor: "night_shift" },
  });
});

test.for<[string, Record<string, string>]>([
  ["without secret keys", {}],
  ["that lists it among its secret keys", { default: serviceRoleKey }],
])(
  "the legacy token is one actor in a project %s, in whichever header it comes",
  async ([, keys], { onTestFinished }) => {
    const api = await startApi("with_example", { environment: { SUPABASE_SECRET_KEYS: JSON.stringify(keys) } });
    onTestFinished(api.stop);
    const ways = { v1: { apikey: serviceRoleKey }, v2: bearer(serviceRoleKey) };
    for (const [version, credentials] of Object.entries(ways)) {
      const json = { tables: ["profiles"], two_keys: true };
      const plan = await api.call("PUT", `/v1/plans/${version}`, { credentials, json });
      expect(plan).toMatchObject({ status: 201, json: { actor: "service_role" } });
    }
    await api.call("POST", "/v1/backups", { credentials: ways.v1, json: { version: "v1" }, wait: 60 });
    await api.database.sql`alter table public.profiles add column note text`;
    const plan = await api.call("GET", "/v1/backups/v1/rollback-plan", { credentials: ways.v1 });
    for (const credentials of Object.values(ways)) {
      const json = { plan_hash: plan.json.plan_hash };
      expect((await api.call("POST", "/v1/backups/v1/rollback", { credentials, json })).json.code).toBe(
        "second_key_required",
      );
    }
  },
);
