import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { expect } from "vitest";
import { publishableKeys, secretKeys, signLegacyToken } from "../../local/keys.ts";
import { type Role, Role as Roles } from "../../supabase/functions/migration-guard/roles.ts";
import { type Api, giveRoles, startApi, test } from "../support/api.ts";

// deno-lint-ignore no-explicit-any
type Client = SupabaseClient<any, any, any>;

const auth = { persistSession: false, autoRefreshToken: false };
const userToken = await signLegacyToken({
  sub: "00000000-0000-4000-8000-000000000001",
  role: "authenticated",
  exp: Math.floor(Date.now() / 1000) + 3600,
});

function clients({ stack: { url } }: Api): Record<"anon" | "authenticated" | "service_role", Client> {
  const headers = { Authorization: `Bearer ${userToken}` };
  return {
    anon: createClient(url, publishableKeys.default, { auth }),
    authenticated: createClient(url, publishableKeys.default, { auth, global: { headers } }),
    service_role: createClient(url, secretKeys.default, { auth }),
  };
}

/** Everything that there is in the schemas of the product and of a backup: relations and functions. */
async function everything({ database }: Api) {
  const relations = await database.sql<{ schema: string; name: string }[]>`
    select n.nspname as schema, c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v') and (n.nspname like 'migration\_guard%' or n.nspname like 'migration\_backup\_%')`;
  const functions = await database.sql<{ schema: string; name: string }[]>`
    select distinct n.nspname as schema, p.proname as name
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname like 'migration\_guard%' or n.nspname like 'migration\_backup\_%'`;
  return { relations, functions };
}

/** A call that reaches the function, if anybody may: its arguments are named as the catalog has them, and null unless known. */
async function callEverything(
  api: Api,
  client: Client,
  schema: string,
  name: string,
  known: Record<string, unknown> = {},
) {
  const signatures = await api.database.sql<{ names: string[] }[]>`
    select coalesce(p.proargnames[1:p.pronargs], '{}') as names
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = ${schema} and p.proname = ${name}`;
  const args = Object.fromEntries(signatures[0]!.names.map((argument) => [argument, known[argument] ?? null]));
  return await client.schema(schema).rpc(name, args);
}

async function withBackup(schemas?: string[]): Promise<Api> {
  const api = await startApi("with_example", { schemas });
  await api.call("PUT", "/v1/plans/v10", { json: { tables: ["profiles"], enums: ["user_role"] } });
  expect((await api.call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 })).json).toMatchObject({
    status: "succeeded",
  });
  return api;
}

test("anon and authenticated see and call nothing of the product or a backup", async ({ onTestFinished }) => {
  const api = await withBackup();
  onTestFinished(api.stop);
  const { anon, authenticated } = clients(api);
  const { relations, functions } = await everything(api);
  for (const [role, client] of Object.entries({ anon, authenticated })) {
    for (const { schema, name } of relations) {
      const { data, error } = await client.schema(schema).from(name).select();
      expect(error, `${role} reads ${schema}.${name}`).not.toBeNull();
      expect(data).toBeNull();
    }
    for (const { schema, name } of functions) {
      const { data, error } = await callEverything(api, client, schema, name);
      expect(error, `${role} calls ${schema}.${name}`).not.toBeNull();
      expect(data).toBeNull();
    }
    // The call did get through to the database: it is the role's rights that refuse it.
    const { error } = await client.schema("migration_guard_api").rpc("list_jobs");
    expect(error?.code, role).toBe("42501");
  }
});

test("service_role calls the functions of the API, and sees nothing else, even where every schema is exposed", async ({ onTestFinished }) => {
  const api = await withBackup(["public", "migration_guard_api", "migration_guard", "migration_backup_v10"]);
  onTestFinished(api.stop);
  api.stack.rest.reloadSchema();
  const { service_role } = clients(api);
  const { relations, functions } = await everything(api);
  expect(relations.length).toBeGreaterThan(10);
  for (const { schema, name } of relations) {
    const { error } = await service_role.schema(schema).from(name).select();
    expect(error?.code, `${schema}.${name}`).toBe("42501");
  }
  for (const { schema, name } of functions.filter((each) => each.schema !== "migration_guard_api")) {
    const { data, error } = await callEverything(api, service_role, schema, name);
    expect(error, `${schema}.${name}`).not.toBeNull();
    expect(data).toBeNull();
  }
  const { data, error } = await service_role.schema("migration_guard_api").rpc("list_jobs");
  expect(error).toBeNull();
  expect(data).toHaveLength(1);
});

/** What a key has to be for each function of the API: `any` where it is let in whatever it is. */
const neededRole: Record<string, Role | "any"> = {
  ...{ cancel_job: "operator", confirm_backup: "operator", create_backup: "operator", delete_plan: "operator" },
  ...{ derive_plan: "operator", diff_backup: "operator", plan_rollback: "operator", preflight_plan: "operator" },
  ...{ put_plan: "operator", verify_backup: "operator" },
  ...{ delete_backup: "admin", delete_key: "admin", get_audit_head: "admin", get_key: "admin", list_audit: "admin" },
  ...{ list_keys: "admin", plan_cleanup: "admin", put_key: "admin", roll_back: "admin", verify_audit: "admin" },
  ...{ create_import: "admin", restore_from_trash: "admin", admit_change: "any", count_refusals: "any" },
  ...{ get_backup: "any", get_checklist: "any", get_job: "any", get_metrics: "any", get_plan: "any" },
  ...{ get_readiness: "any", get_role: "any", list_backups: "any", list_jobs: "any", list_names: "any" },
  ...{ list_plans: "any", record_refusal: "any", record_webhook: "any", take_webhooks: "any" },
  ...{ create_export: "operator", resume_export: "operator", verify_export: "operator", delete_export: "admin" },
  ...{ plan_export_removal: "admin", get_export: "any", list_exports: "any" },
};

test("each function of the API holds the key that it is told of to its role", async ({ onTestFinished }) => {
  const api = await withBackup();
  onTestFinished(api.stop);
  await giveRoles(api);
  const { service_role } = clients(api);
  const { functions } = await everything(api);
  const names = functions.filter(({ schema }) => schema === "migration_guard_api").map(({ name }) => name);
  expect(names.sort()).toEqual(Object.keys(neededRole).sort());
  const actors: [actor: string | null, role: Role][] = [
    [null, "viewer"],
    ["a key that nobody knows", "viewer"],
    ["watcher", "viewer"],
    ["night_shift", "operator"],
    ["default", "admin"],
  ];
  for (const name of names) {
    const needed = neededRole[name]!;
    for (const [actor, role] of actors) {
      const { error } = await callEverything(api, service_role, "migration_guard_api", name, { actor });
      const told = `${name} as ${actor}: ${error?.message}`;
      expect(error?.code, told).not.toBe("42501");
      const isOver = needed !== "any" && Roles.options.indexOf(needed) > Roles.options.indexOf(role);
      expect(error?.code === "MG027", told).toBe(isOver);
      if (isOver) expect(JSON.parse(error!.details), told).toMatchObject({ role, required: needed });
    }
  }
  const asked = { version: "v10", actor: "night_shift", include_values: true };
  const { error } = await callEverything(api, service_role, "migration_guard_api", "diff_backup", asked);
  expect(error?.code).toBe("MG027");
});

test("REST serves the example app by its row level security", async ({ api }) => {
  const { anon, service_role } = clients(api);
  const all = await service_role.from("profiles").select("id");
  expect(all.data?.length).toBeGreaterThan(0);
  const none = await anon.from("profiles").select("id");
  expect(none.data ?? []).toHaveLength(0);
});
