import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

const people = {
  coordinator: { role: "authenticated", account: 1 },
  client: { role: "authenticated", account: 48 },
  stranger: { role: "authenticated", account: 9999 },
  "nobody who signed in": { role: "anon", account: null },
};

const id = (account: number) => `md5('user ${account}')::uuid`;

const reads = ["profiles", "coordinator_notes", "invite_codes", "invite_code_usage", "nutrition_targets", "daily_logs"]
  .map((table) => `select to_jsonb(t) as row from public.${table} as t order by 1`);

const calls = [
  `select public.is_super_admin(${id(0)}), public.is_super_admin(${id(1)})`,
  `select public.is_coordinator(${id(1)}), public.is_coordinator(${id(48)})`,
  `select public.is_client_coordinator(${id(48)}, ${id(1)}), public.is_client_coordinator(${id(48)}, ${id(2)})`,
  `select public.use_invite_code(upper(left(md5('code 2 0'), 8)), ${id(48)}) as answer`,
  `select public.use_invite_code('NOSUCH00', ${id(9999)})`,
  `select public.create_user_profile(${id(9999)}, 'new@example.com', 'New')`,
  `select public.create_user_profile(${id(9999)}, 'new@example.com', 'New', 'coordinator')`,
  `select public.create_user_profile(${id(9999)}, 'new@example.com', null, 'client', ${id(1)})`,
  "select public.touch_updated_at()",
];

const writes = [
  `update public.profiles set name = 'Other' where id in (${id(1)}, ${id(48)}) returning id`,
  "update public.profiles set role = 'coordinator', name = 'Me', coordinator_id = null returning id",
  `update public.profiles set coordinator_id = ${id(2)} returning id`,
  `insert into public.coordinator_notes (coordinator_id, client_id, note) values (${id(1)}, ${
    id(48)
  }, 'x') returning note`,
  `insert into public.coordinator_notes (coordinator_id, client_id, note) values (${id(1)}, ${
    id(50)
  }, 'x') returning note`,
  `insert into public.invite_codes (code, coordinator_id) values ('ABCD0001', ${id(1)}) returning code`,
  `insert into public.invite_codes (code, coordinator_id) values ('ABCD0001', ${id(48)}) returning code`,
  `insert into public.nutrition_targets (client_id, valid_from, protein_g, carbs_g, fat_g)
    values (${id(48)}, '2030-01-01', 1, 1, 1) returning client_id`,
  `insert into public.daily_logs (client_id, log_date) values (${id(48)}, '2030-01-01') returning client_id`,
  "delete from public.invite_code_usage returning id",
];

/** What a statement gives somebody who has signed in over REST, or the SQLSTATE with which it is refused; then undone. */
async function attempt(
  sql: postgres.Sql,
  { role, account }: { role: string; account: number | null },
  statement: string,
) {
  await sql.unsafe("begin");
  try {
    await sql.unsafe(
      account === null
        ? `select set_config('request.jwt.claims', '{"role": "anon"}', true)`
        : `select set_config('request.jwt.claims', jsonb_build_object('role', '${role}', 'sub', ${
          id(account)
        })::text, true)`,
    );
    await sql.unsafe(`set local role ${role}`);
    return [...await sql.unsafe(statement)];
  } catch (error) {
    return { refused: (error as { code: string }).code };
  } finally {
    await sql.unsafe("rollback");
  }
}

/** What each of the people sees, calls and writes. */
async function outcomes(database: TestDatabase) {
  const sql = database.connect("authenticator");
  const found: Record<string, unknown> = {};
  for (const [name, person] of Object.entries(people)) {
    for (const statement of [...reads, ...calls, ...writes]) {
      found[`${name}: ${statement}`] = await attempt(sql, person, statement);
    }
  }
  return found;
}

/** Who may do what with the app's objects, how functions run, and which rows policies let through. */
async function rights(sql: postgres.Sql) {
  const privileges = await sql`
    with owned (object, owner, acl) as (
      select 'relation ' || relname, relowner, coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
      from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S')
      union all
      select 'function ' || oid::regprocedure, proowner, coalesce(proacl, acldefault('f', proowner))
      from pg_proc where pronamespace = 'public'::regnamespace
      union all
      select 'type ' || typname, typowner, coalesce(typacl, acldefault('T', typowner))
      from pg_type where typnamespace = 'public'::regnamespace and typtype in ('e', 'd')
      union all
      select format('column %s.%s', c.relname, a.attname), c.relowner, a.attacl
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid
      where c.relnamespace = 'public'::regnamespace and a.attacl is not null
    )
    select o.object, o.owner::regrole::text as owner, a.grantee::regrole::text as grantee, a.privilege_type, a.is_grantable
    from owned as o left join lateral aclexplode(o.acl) as a on true
    order by 1, 3, 4`;
  const functions = await sql`
    select oid::regprocedure::text as function, prosecdef, provolatile, proconfig
    from pg_proc where pronamespace = 'public'::regnamespace order by 1`;
  const tables = await sql`
    select relname, relrowsecurity, relforcerowsecurity from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`;
  const policies = await sql`select * from pg_policies where schemaname = 'public' order by tablename, policyname`;
  return { privileges: [...privileges], functions: [...functions], tables: [...tables], policies: [...policies] };
}

async function rollBack(sql: postgres.Sql, data: "keep" | "restore") {
  const options = sql.json({ data });
  const [plan] = await sql`select * from migration_guard.plan_rollback('v10', ${options}, 'test')`;
  await sql`select migration_guard.enqueue_rollback('v10', ${plan!.plan_hash}, ${options}, false, 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
}

test("what the people of the app may do differs between them", async ({ example }) => {
  const found = await outcomes(example);
  const count = (name: string, statement: string) => (found[`${name}: ${statement}`] as unknown[]).length;
  const seen = Object.fromEntries(
    Object.keys(people).map((name) => [name, name.startsWith("nobody") ? 0 : reads.map((read) => count(name, read))]),
  );
  expect(seen.coordinator).not.toContain(0);
  expect(seen.client).toEqual([expect.any(Number), 2, 0, expect.any(Number), 2, 12]);
  expect(seen.stranger).toEqual([0, 0, 0, 0, 0, 0]);
  for (const read of reads) expect(found[`nobody who signed in: ${read}`]).toEqual({ refused: "42501" });
  expect(found[`client: ${calls[3]}`]).toMatchObject([{ answer: { success: true } }]);
  const outcomeKinds = Object.values(found).map((outcome) => Array.isArray(outcome) ? "done" : "refused");
  expect(outcomeKinds.filter((kind) => kind === "refused").length).toBeGreaterThan(20);
});

test.for(["keep", "restore"] as const)(
  "after a rollback with %s everybody sees, calls and writes what they could before, and nothing else",
  async (data, { example }) => {
    const { sql } = example;
    const before = await outcomes(example);
    const rightsBefore = await rights(sql);
    await backUp(sql, "v10.0", examplePlan);
    await example.connect().unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
    // A hole, which the way back must close.
    await sql.unsafe(`
      create policy "Everybody reads notes" on public.curator_notes for select using (true);
      grant select on public.curator_notes, public.profiles to anon;
      grant select (code) on public.invite_codes to anon;
      alter table public.daily_logs disable row level security;
      create function public.read_notes() returns setof public.curator_notes
        language sql security definer as 'select * from public.curator_notes';
      alter function public.is_super_admin(uuid) security invoker;
      grant execute on function public.touch_updated_at() to public;`);
    expect(await outcomes(example)).not.toEqual(before);

    await rollBack(sql, data);
    expect(await rights(sql)).toEqual(rightsBefore);
    expect(await outcomes(example)).toEqual(before);
  },
);
