import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type postgres from "postgres";
import { expect, vi } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { supabase } from "../../local/database.ts";
import { anonKey, jwtSecret, serviceRoleKey } from "../../local/keys.ts";
import { backUp, lastJob, verify } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

/** The product's schemas and those of all backups, as a condition on the name of a schema. */
const isOurs = `(n.nspname in ('migration_guard', 'migration_guard_api') or n.nspname like 'migration\\_backup\\_%')`;

/**
 * Every privilege that a role has in our schemas, whoever it comes from: read from the catalog, so that no object can be
 * forgotten. The sets of privileges are Postgres's own, by kind of object.
 */
async function privileges(sql: postgres.Sql, role: string): Promise<string[]> {
  const rows = await sql.unsafe<{ privilege: string }[]>(
    `
    select p || ' on schema ' || n.nspname as privilege
    from pg_namespace as n, unnest('{usage,create}'::text[]) as p
    where ${isOurs} and has_schema_privilege($1, n.oid, p)
    union all
    select lower(p) || ' on ' || c.oid::regclass
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace,
      -- Which ones there are depends on the version: an owner has them all.
      (select privilege_type from aclexplode(acldefault('r', 10))) as owned(p)
    where ${isOurs} and c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege($1, c.oid, p)
    union all
    select p || ' on some column of ' || c.oid::regclass
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace,
      unnest('{select,insert,update,references}'::text[]) as p
    where ${isOurs} and c.relkind in ('r', 'p', 'v', 'm', 'f') and has_any_column_privilege($1, c.oid, p)
    union all
    select p || ' on sequence ' || c.oid::regclass
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace, unnest('{usage,select,update}'::text[]) as p
    where ${isOurs} and c.relkind = 'S' and has_sequence_privilege($1, c.oid, p)
    union all
    select 'execute on ' || p.oid::regprocedure
    from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    where ${isOurs} and has_function_privilege($1, p.oid, 'execute')
    union all
    select 'usage on type ' || t.oid::regtype
    from pg_type as t join pg_namespace as n on n.oid = t.typnamespace
    where ${isOurs} and has_type_privilege($1, t.oid, 'usage')
    order by 1`,
    [role],
  );
  return rows.map(({ privilege }) => privilege);
}

/** What service_role needs, and all that it may have: the API's schema, functions and types. */
async function apiPrivileges(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql<{ privilege: string }[]>`
    select 'usage on schema migration_guard_api' as privilege
    union all
    select 'execute on ' || p.oid::regprocedure from pg_proc as p where p.pronamespace = 'migration_guard_api'::regnamespace
    union all
    select 'usage on type ' || t.oid::regtype from pg_type as t where t.typnamespace = 'migration_guard_api'::regnamespace
    order by 1`;
  return rows.map(({ privilege }) => privilege);
}

async function expectClosed(sql: postgres.Sql) {
  for (const role of ["anon", "authenticated", "authenticator"]) expect(await privileges(sql, role)).toEqual([]);
  expect(await privileges(sql, "service_role")).toEqual(await apiPrivileges(sql));
}

// Privileges

test("anon and authenticated have nothing in our schemas, service_role the API's functions", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  await backUp(example.sql, "20260101000000", examplePlan);
  await expectClosed(example.sql);
  expect((await privileges(example.sql, "service_role")).filter((privilege) => privilege.startsWith("execute")).length)
    .toBeGreaterThan(10);
  // The walk finds what there is: the owner has it all.
  const owned = await privileges(example.sql, "postgres");
  expect(owned).toEqual(expect.arrayContaining([
    "create on schema migration_backup_v10",
    "select on migration_backup_v10.profiles_backup",
    "select on migration_backup_20260101000000.profiles_backup",
    "execute on migration_backup_v10.compute_manifest()",
    "usage on type migration_backup_v10.profiles_backup",
    "update on migration_guard.backups",
    "usage on sequence migration_guard.jobs_number_seq",
    "execute on migration_guard.work(boolean)",
  ]));
});

test.for(["anon", "authenticated"])(
  "%s can neither see nor call nor make anything of ours",
  async (role, { example }) => {
    await backUp(example.sql, "v10", examplePlan);
    const admin = example.connect("supabase_admin");
    await admin.unsafe(`set role ${role}`);
    for (
      const statement of [
        `select * from migration_guard.plans`,
        `select * from migration_guard.catalog_objects`,
        `select migration_guard.product_version()`,
        `call migration_guard.work()`,
        `select migration_guard.assert_ready('v10')`,
        `select * from migration_guard_api.get_readiness()`,
        `select * from migration_guard_api.list_backups()`,
        `select migration_guard_api.put_plan('v11', '{"tables": ["profiles"]}', 'me')`,
        `select * from migration_backup_v10.profiles_backup`,
        `select * from migration_backup_v10.backup_metadata`,
        `select * from migration_backup_v10.verify_backup_integrity()`,
        `create table migration_backup_v10.mine (id int)`,
        `create table public.mine (plan migration_guard_api.plan)`,
      ]
    ) await expect(admin.unsafe(statement), statement).rejects.toMatchObject({ code: "42501" });
  },
);

/** A call of each function of ours, with nulls for what it takes. */
async function calls(sql: postgres.Sql): Promise<{ schema: string; statement: string }[]> {
  return await sql.unsafe(`
    select n.nspname as schema, format('%s %s.%s(%s)', case p.prokind when 'p' then 'call' else 'select' end, n.nspname, p.proname,
      (select string_agg('null::' || format_type(t, null), ', ' order by number) from unnest(p.proargtypes) with ordinality as a (t, number))) as statement
    from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    where ${isOurs} order by 1, 2`);
}

test("no role but the owner can call a function of ours, except service_role those of the API", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  const all = await calls(example.sql);
  expect(new Set(all.map(({ schema }) => schema)).size).toBe(3);
  const admin = example.connect("supabase_admin");
  const plain = `plain_${example.name}`;
  await admin.unsafe(`create role ${plain} login`);
  for (const role of ["anon", "authenticated", "authenticator", plain, "service_role"]) {
    await admin.unsafe(`set role ${role}`);
    for (const { schema, statement } of all) {
      // Undone, whatever it does for who may call it.
      const outcome = await admin.unsafe(`begin; ${statement}; rollback`).simple().then(
        () => "done",
        ({ code }) => code,
      );
      await admin`rollback`;
      if (role === "service_role" && schema === "migration_guard_api") expect(outcome, statement).not.toBe("42501");
      else expect(outcome, `${role}: ${statement}`).toBe("42501");
    }
  }
  await admin.unsafe(`reset role; drop role ${plain}`).simple();
});

test("service_role calls the API's functions, and reaches nothing behind them", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  const admin = example.connect("supabase_admin");
  await admin`set role service_role`;
  expect(await admin`select version from migration_guard_api.list_backups()`).toEqual([{ version: "v10.0" }]);
  expect(await admin`select kind from migration_guard_api.verify_backup('v10', 'default')`).toEqual([{
    kind: "verify",
  }]);
  for (
    const statement of [
      `select * from migration_guard.jobs`,
      `update migration_guard.backups set confirmed_at = now() - interval '1 year'`,
      `select migration_guard.get_plan('v10')`,
      `select migration_guard.drop_backup_schema(null)`,
      `call migration_guard.work()`,
      `select * from migration_backup_v10.profiles_backup`,
      `select * from migration_backup_v10.verify_backup_integrity()`,
      `create function migration_guard_api.mine() returns int language sql as 'select 1'`,
    ]
  ) await expect(admin.unsafe(statement), statement).rejects.toMatchObject({ code: "42501" });
});

/** What a careless owner says once, and every new schema, table and function then comes with. */
const generousDefaults = `
  alter default privileges grant all on schemas to anon, authenticated, service_role;
  alter default privileges grant all on tables to public, anon, authenticated, service_role;
  alter default privileges grant all on sequences to anon, authenticated, service_role;
  alter default privileges grant all on functions to anon, authenticated, service_role;
  alter default privileges grant all on types to anon, authenticated, service_role;`;

test("a backup is closed even where default privileges give everything to everybody", async ({ example: { sql } }) => {
  await sql.unsafe(generousDefaults);
  await sql`create schema careless`;
  expect(await sql`select has_schema_privilege('anon', 'careless', 'usage') as is_open`).toEqual([{ is_open: true }]);
  await backUp(sql, "v10", examplePlan);
  await expectClosed(sql);
});

test("the product is closed where default privileges were generous before it came", async ({ database: { sql } }) => {
  await sql`drop schema migration_guard, migration_guard_api cascade`;
  await sql.unsafe(generousDefaults);
  const folder = join(import.meta.dirname, "..", "..", "supabase", "migrations");
  for (const file of readdirSync(folder).sort()) await sql.unsafe(readFileSync(join(folder, file), "utf8"));
  expect(await sql`select migration_guard.product_version() is not null as installed`).toEqual([{ installed: true }]);
  await expectClosed(sql);
});

// The REST server of the local stack, as it is by itself: at its first request it grants everything on each schema that
// has a table with row level security.

function startStockRest({ port, name }: TestDatabase, user: string) {
  const connect = (user: string) =>
    createPostgresConnection({
      url: databaseUrl({ user, port, database: name }),
      postgresOptions: { max: 2, onnotice: () => {} },
    });
  const connection = connect(user);
  // `authenticator` sees too little of the catalog to find the table that it is asked for.
  const reader = connect("supabase_admin");
  connection.introspect = () => reader.introspect({ useCache: false });
  const app = new App({
    connection,
    auth: { enabled: false, jwt_secret: jwtSecret },
    api: { enabled: true, schemas: ["public", "migration_guard_api"] },
    studio: { enabled: false },
    storage: { enabled: false },
    options: {
      server: {
        disableStudio: true,
        apiKeys: {
          resolver: (key) => {
            const role = key === serviceRoleKey ? "service_role" : "anon";
            return Promise.resolve({ type: role === "anon" ? "publishable" : "secret", claims: { role } });
          },
        },
      },
    },
  });
  return {
    get: async (path: string, key: string, schema = "public") => {
      const headers = { apikey: key, authorization: `Bearer ${key}`, "accept-profile": schema };
      return (await app.server.fetch(new Request(`http://localhost/rest/v1/${path}`, { headers }))).status;
    },
    stop: () => Promise.all([connection.close(), reader.close()]),
  };
}

test("a REST server that grants everything where it finds row security grants nothing of ours", async ({ example }) => {
  const { sql } = example;
  await backUp(sql, "v10", examplePlan);
  const mayTruncate = async () =>
    (await sql`select has_table_privilege('anon', 'public.profiles', 'truncate') as may`)[0]!.may;
  expect(await mayTruncate()).toBe(false);
  const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
  const rest = startStockRest(example, "supabase_admin");
  try {
    expect(await rest.get("profiles?select=id&limit=1", anonKey)).toBe(200);
    // It has done what it does.
    expect(await mayTruncate()).toBe(true);
    await expectClosed(sql);
    expect(await rest.get("rpc/list_backups", anonKey, "migration_guard_api")).toBeGreaterThanOrEqual(400);
    expect(await rest.get("rpc/list_backups", serviceRoleKey, "migration_guard_api")).toBe(200);
  } finally {
    await rest.stop();
    quiet.mockRestore();
  }
  await backUp(sql, "v10.1", examplePlan);
  await expectClosed(sql);
});

test("a REST server that logs in with no right of its own opens nothing of ours either", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
  const rest = startStockRest(example, "authenticator");
  try {
    // The first one is refused for what it wants to grant; after that it serves.
    expect(await rest.get("profiles?select=id&limit=1", anonKey)).toBe(401);
    await expectClosed(example.sql);
    expect(await rest.get("rpc/list_backups", anonKey, "migration_guard_api")).toBeGreaterThanOrEqual(400);
    expect(await rest.get("rpc/list_backups", serviceRoleKey, "migration_guard_api")).toBe(200);
    await expectClosed(example.sql);
  } finally {
    await rest.stop();
    quiet.mockRestore();
  }
});

test("no table of ours has row security, which a REST server would take as an invitation", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  expect(
    await sql.unsafe(`
      select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
      where ${isOurs} and (c.relrowsecurity or c.relforcerowsecurity)`),
  ).toEqual([]);
});

// How the SQL is made

/** Everything that `where` is true of, among the objects of ours that a catalog lists, a backup's included. */
async function ours(sql: postgres.Sql, from: string, identity: string, where: string): Promise<string[]> {
  const rows = await sql.unsafe<{ identity: string }[]>(
    `select ${identity} as identity from ${from} where ${isOurs} and (${where}) order by 1`,
  );
  return rows.map(({ identity }) => identity);
}
const functions = "pg_proc as p join pg_namespace as n on n.oid = p.pronamespace";
const relations = "pg_class as c join pg_namespace as n on n.oid = c.relnamespace";
const types = "pg_type as t join pg_namespace as n on n.oid = t.typnamespace";

test("no function can be misled by a search_path", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const identity = "p.oid::regprocedure::text";
  expect((await ours(sql, functions, identity, "true")).length).toBeGreaterThan(50);
  const unpinned = await ours(
    sql,
    functions,
    identity,
    `not coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']`,
  );
  // A procedure that commits may have no setting of its own: it qualifies every name.
  expect(unpinned.sort()).toEqual([
    "migration_guard.help(boolean)",
    "migration_guard.run_claimed_job(migration_guard.jobs,text)",
    "migration_guard.verify_if_due(text,interval)",
    "migration_guard.work(boolean)",
  ]);
  expect(await ours(sql, functions, identity, "p.prosecdef and p.prokind = 'p'")).toEqual([]);
});

test("service_role cannot have the owner run code by a temporary type that goes by a built-in name", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  const role = example.connect("supabase_admin");
  await role.unsafe(`
    create table public.ran (who text);
    grant insert on public.ran to postgres, service_role;
    set role service_role;
    create function pg_temp.evil(v pg_catalog.text) returns boolean language plpgsql as $$
      begin insert into public.ran values (current_user); return true; end $$;
    create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value));
    create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.evil(value::pg_catalog.text));
    create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.evil(value::pg_catalog.text));
  `);
  await role`select * from migration_guard_api.get_plan('v10')`;
  await role`select * from migration_guard_api.list_backups()`;
  await role`select * from migration_guard_api.list_jobs()`;
  await role`select * from migration_guard_api.get_checklist('v10')`;
  await role`select * from migration_guard_api.plan_cleanup('v10', 'default')`;
  await role`select * from migration_guard_api.verify_backup('v10', 'default', 'y')`;
  expect(await example.sql`select * from public.ran where who = 'postgres'`).toEqual([]);
});

test("a role that default privileges favour has no right in a backup, and a grant is noticed", async ({ example }) => {
  const admin = example.connect("supabase_admin");
  const reporting = `reporting_${example.name}`;
  await admin.unsafe(`create role ${reporting}`);
  await example.sql.unsafe(`
    alter default privileges grant usage on schemas to ${reporting};
    alter default privileges grant select on tables to ${reporting};
  `);
  await backUp(example.sql, "v10", examplePlan);
  await admin.unsafe(`set role ${reporting}`);
  await expect(admin`select from migration_backup_v10.profiles_backup`).rejects.toMatchObject({ code: "42501" });
  await admin.unsafe("reset role");
  await example.sql.unsafe(`grant usage on schema migration_backup_v10 to anon`);
  expect((await verify(example.sql, "v10")).get("closed")).toMatchObject({
    status: "FAIL",
    details: expect.stringContaining("anon"),
  });
  await admin.unsafe(`drop owned by ${reporting}; drop role ${reporting}`);
});

test("the procedures that cannot pin their search_path are not misled by one", async ({ example }) => {
  const { sql } = example;
  await sql.unsafe(`
    create schema evil;
    create function evil.current_setting(text) returns text language plpgsql as $$ begin raise 'misled'; end $$;
    create function evil.pg_advisory_unlock(int, int) returns boolean language plpgsql as $$ begin raise 'misled'; end $$;
    create function evil.is_evil(text, text) returns boolean language plpgsql as $$ begin raise 'misled'; end $$;
    create operator evil.<> (leftarg = text, rightarg = text, function = evil.is_evil);
    create operator evil.= (leftarg = text, rightarg = text, function = evil.is_evil);
    create domain evil.uuid as pg_catalog.uuid check (pg_catalog.length(value::text) = 0);
    set search_path = evil, pg_catalog, public;
  `);
  await backUp(sql, "v10", examplePlan);
  await sql`call migration_guard.verify_if_due('v10', '1 hour')`.simple();
  expect((await lastJob(sql)).result).toMatchObject({ ok: true });
});

test("everything is owned by postgres", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  expect(await ours(sql, functions, "p.oid::regprocedure::text", "p.proowner <> 'postgres'::regrole")).toEqual([]);
  expect(await ours(sql, relations, "c.oid::regclass::text", "c.relowner <> 'postgres'::regrole")).toEqual([]);
  expect(await ours(sql, "pg_namespace as n", "n.nspname", "n.nspowner <> 'postgres'::regrole")).toEqual([]);
});

test("everything says what it is in a comment", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const lacks = (oid: string, catalog: string) => `coalesce(obj_description(${oid}, '${catalog}'), '') = ''`;
  expect(await ours(sql, "pg_namespace as n", "n.nspname", lacks("n.oid", "pg_namespace"))).toEqual([]);
  expect(await ours(sql, functions, "p.oid::regprocedure::text", lacks("p.oid", "pg_proc"))).toEqual([]);
  expect(
    await ours(
      sql,
      relations,
      "c.oid::regclass::text",
      `c.relkind in ('r', 'v', 'm', 'p') and ${lacks("c.oid", "pg_class")}`,
    ),
  ).toEqual([]);
  expect(
    await ours(
      sql,
      `${types} left join pg_class as c on c.oid = t.typrelid`,
      "t.oid::regtype::text",
      `t.typelem = 0 and coalesce(c.relkind, 'c') = 'c' and ${lacks("t.oid", "pg_type")}`,
    ),
  ).toEqual([]);
});

test("only the API's functions run with the rights of their owner", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const definers = await ours(sql, functions, "n.nspname", "p.prosecdef");
  expect(new Set(definers)).toEqual(new Set(["migration_guard_api"]));
  expect(
    await ours(sql, functions, "p.oid::regprocedure::text", "n.nspname = 'migration_guard_api' and not p.prosecdef"),
  )
    .toEqual([]);
});

test("the platform's advisors report nothing of ours but the two that are decided", async ({ example }) => {
  await backUp(example.sql, "v10", examplePlan);
  const url = databaseUrl({ port: example.port, database: example.name });
  const output = await supabase(["db", "advisors", "--remote", url, "--level", "info", "--output-format", "json"]);
  const { results } = JSON.parse(output.slice(output.indexOf("{"))) as {
    results: { name: string; level: string; metadata: { schema: string; name: string } }[];
  };
  // It looks at all schemas and at all levels: the example's own findings are there.
  expect(results.map(({ name, metadata }) => `${name} ${metadata.schema}`)).toContain("unindexed_foreign_keys public");
  const ours = results
    .filter(({ metadata }) => metadata.schema?.startsWith("migration_"))
    .map(({ level, name, metadata }) => `${level} ${name} ${metadata.schema}.${metadata.name}`);
  expect(ours.sort()).toEqual([
    // A copy has no keys: it is read whole, and an index would cost time while the backup is taken.
    "INFO no_primary_key migration_backup_v10.coordinator_notes_backup",
    "INFO no_primary_key migration_backup_v10.invite_code_usage_backup",
    "INFO no_primary_key migration_backup_v10.invite_codes_backup",
    "INFO no_primary_key migration_backup_v10.profiles_backup",
    // Postgres lets no procedure commit that has a setting of its own.
    "WARN function_search_path_mutable migration_guard.help",
    "WARN function_search_path_mutable migration_guard.run_claimed_job",
    "WARN function_search_path_mutable migration_guard.verify_if_due",
    "WARN function_search_path_mutable migration_guard.work",
  ]);
});
