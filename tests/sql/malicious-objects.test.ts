import type postgres from "postgres";
import { expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { lastJob, tryBackUp, work } from "../support/backup.ts";
import { test as base, type TestDatabase } from "../support/database.ts";
import { heldJob } from "../support/held-job.ts";
import { planRollback, tryRollBack } from "../support/rollback.ts";
import { until } from "../support/until.ts";

/** A role that may make things in `public`, and a session of its own; whatever of its code runs says so in `public.ran`. */
type Attacker = { name: string; sql: postgres.Sql };

const test = base.extend<{ attacker: Attacker }>({
  attacker: async ({ database }, use) => {
    const admin = database.connect(superuser);
    const name = `attacker_${database.name}`;
    await admin.unsafe(`
      create role ${name};
      grant usage, create on schema public to ${name};
      create table public.ran (what text, who text);
      grant insert on public.ran to public; grant all on public.ran to postgres`).simple();
    const sql = database.connect(superuser);
    await sql.unsafe(`set role ${name}`);
    await use({ name, sql });
    await sql.end();
    await admin.unsafe(`drop owned by ${name} cascade; drop role ${name}`).simple();
  },
});

/** A function of the attacker's that says with whose rights it runs, and then does what it is there for. */
const planted = (name: string, signature: string, returns: string, value: string, options = "immutable") => `
  create function public.${name}(${signature}) returns ${returns} language plpgsql ${options} as $$
  begin
    -- What calls itself immutable may write by way of a query of its own.
    perform public.tell('${name}');
    return ${value};
  end $$;`;

const tell = `
  create function public.tell(what text) returns void language plpgsql as $$
  begin insert into public.ran values (what, current_user); end $$;`;

const plan = { schema: "public", tables: ["app", "theirs"], enums: ["mood"] };

/** An app of the owner's, with what an attacker may plant around it without any right on it. */
async function makeApp({ sql }: TestDatabase, attacker: Attacker) {
  await attacker.sql.unsafe(tell);
  await attacker.sql.unsafe(`
    create type public.mood as enum ('sad', 'ok');
    ${planted("mood_text", "public.mood", "text", "'x'")}
    ${planted("mood_json", "public.mood", "json", "'1'")}
    ${planted("moods_equal", "public.mood, public.mood", "boolean", "true")}
    ${planted("mood_joined", "public.mood, text", "text", "'x'")}
    create cast (public.mood as text) with function public.mood_text(public.mood) as implicit;
    create cast (public.mood as json) with function public.mood_json(public.mood) as implicit;
    create operator public.= (leftarg = public.mood, rightarg = public.mood, function = public.moods_equal);
    create operator public.<> (leftarg = public.mood, rightarg = public.mood, function = public.moods_equal);
    create operator public.*<> (leftarg = public.mood, rightarg = public.mood, function = public.moods_equal);
    create operator public.|| (leftarg = public.mood, rightarg = text, function = public.mood_joined);
    ${planted("format", "text, public.mood", "text", "'x'")}
    ${planted("format", "text, text", "text", "'x'")}
    ${planted("hashtid", "tid", "integer", "1")}
    ${planted("quote_ident", "text", "text", "'x'")}
    ${planted("to_regclass", "text", "regclass", "null")}
    ${planted("to_jsonb", "public.mood", "jsonb", "'1'")}
    ${planted("num_nulls", "public.mood", "integer", "0")}
    ${planted("jsonb_build_object", "text, public.mood", "jsonb", "'{}'")}
    ${planted("count", "public.mood", "bigint", "1")}
    ${planted("row_columns", "bigint", "text", "'x'")}
    ${planted("work", "boolean", "text", "'x'")}
    ${planted("projection", "oid", "text", "'select 1'")}
    create table public.theirs (id int primary key, m public.mood, note text);
    insert into public.theirs values (1, 'sad', 'a'), (2, 'ok', 'b');
    grant all on public.theirs to postgres`).simple();
  await sql.unsafe(`
    create table public.app (id int primary key, m public.mood, note text default 'x', gone text);
    insert into public.app values (1, 'sad', 'a', 'g'), (2, 'ok', 'b', 'h');
    grant trigger on public.app to ${attacker.name};`).simple();
  await attacker.sql.unsafe(`
    create function public.fire() returns trigger language plpgsql as $$
      begin perform public.tell('trigger'); return coalesce(new, old); end $$;
    create trigger each_row before insert or update or delete on public.app for each row execute function public.fire();
    create trigger each_statement after insert or update or delete or truncate on public.app for each statement execute function public.fire();
    create trigger always after insert or update or delete on public.app for each row execute function public.fire();
    create trigger each_row before insert or update or delete on public.theirs for each row execute function public.fire();
    create view public.looks as select *, public.mood_text(m) as t from public.theirs;
    create materialized view public.looked as select public.moods_equal(m, m) from public.theirs with no data;
    alter table public.theirs enable row level security;
    create policy p on public.theirs using (public.moods_equal(m, m));
    create rule r as on update to public.theirs do also select public.tell('rule')`).simple();
  await sql`alter table public.app enable always trigger always`;
}

/** What of the attacker's code has run with the rights of the product's owner. */
async function ranAsOwner(database: TestDatabase) {
  const rows = await database.sql<
    { what: string }[]
  >`select distinct what from public.ran where who = 'postgres' order by what`;
  return rows.map(({ what }) => what);
}

/** Does everything that the product does around a migration, and looks after each step. */
async function everyOperation(database: TestDatabase, migrate: () => Promise<unknown>, back: "keep" | "restore") {
  const { sql } = database;
  const ran: Record<string, string[]> = {};
  const step = async (name: string, run: () => PromiseLike<unknown>) => {
    await sql`delete from public.ran`;
    await run();
    const found = await ranAsOwner(database);
    if (found.length > 0) ran[name] = found;
  };
  const job = async () => {
    await work(sql);
    return expect(await lastJob(sql)).toMatchObject({ error: null, status: "succeeded" });
  };
  const touches = sql.json([{ line: 1, statement: "ALTER TABLE", kind: "table", name: ["public", "app"] }]);
  await step("put_plan", () => sql`select * from migration_guard_api.put_plan('v1', ${sql.json(plan)}, 'test')`);
  await step(
    "derive_plan",
    () => sql`select migration_guard_api.derive_plan('v1', 'public', ${touches}, 'test')`.catch(() => {}),
  );
  await step("preflight", () => sql`select migration_guard_api.preflight_plan('v1', 'test')`);
  await step("backup", async () => {
    await sql`select migration_guard_api.create_backup('v1', 'test')`;
    await job();
  });
  await step("verify", async () => {
    await sql`select migration_guard_api.verify_backup('v1', 'test')`;
    await job();
  });
  await step("checklist", () => sql`select * from migration_guard_api.get_checklist('v1')`);
  await step("assert_ready", () => sql`select migration_guard.assert_ready('v1')`);
  await migrate();
  await step("diff", async () => {
    await sql`select migration_guard_api.diff_backup('v1', 5, true, 'test')`;
    await job();
  });
  await step("get_backup", () => sql`select * from migration_guard_api.get_backup('v1')`);
  await step("list_names", () => sql`select * from migration_guard_api.list_names('public')`);
  const options = { data: back };
  await step("plan_rollback", () => planRollback(sql, "v1", options));
  for (const rehearse of [true, false]) {
    await step(rehearse ? "rehearsal" : "rollback", async () => {
      const { plan_hash, cannot_undo } = await planRollback(sql, "v1", options);
      expect(cannot_undo.filter(({ blocks }) => blocks)).toEqual([]);
      await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, ${sql.json(options)}, ${rehearse}, 'test')`;
      await job();
    });
  }
  await step("metrics", () => sql`select migration_guard_api.get_metrics()`);
  await step("audit", async () => {
    await sql`select * from migration_guard_api.list_audit('test')`;
    await sql`select * from migration_guard_api.verify_audit('test')`;
  });
  await step("cleanup", async () => {
    await sql`select migration_guard_api.confirm_backup('v1', 'Fine.', 'test')`;
    await sql`update migration_guard.backups set confirmed_at = now() - interval '1 year'`;
    await sql`select migration_guard_api.verify_backup('v1', 'test')`;
    await job();
    const [cleanup] = await sql`select token from migration_guard_api.plan_cleanup('v1', 'test')`;
    await sql`select migration_guard_api.delete_backup('v1', 'migration_backup_v1', ${cleanup!.token}, 'test')`;
    await job();
  });
  return ran;
}

const migrations = {
  keep: `
    alter table public.app drop column gone;
    alter table public.app rename column note to remark;
    insert into public.app values (3, 'sad', 'c');`,
  restore: `
    alter table public.app disable trigger user;
    delete from public.app where id = 1;
    update public.app set m = 'sad' where id = 2;
    insert into public.app values (3, 'sad', 'c');
    alter table public.app enable trigger user, enable always trigger always;`,
};

for (const back of ["keep", "restore"] as const) {
  test(`nothing that surrounds an app runs as its owner on the whole way of a migration, with ${back}`, async ({ database, attacker }) => {
    await makeApp(database, attacker);
    // It is live: the owner's own statements run it.
    await database.sql`update public.app set note = m::text`;
    expect(await ranAsOwner(database)).toEqual(["mood_text", "trigger"]);
    const ran = await everyOperation(database, () => database.sql.unsafe(migrations[back]).simple(), back);
    expect(ran).toEqual({});
  });
}

// What Postgres calls while it plans

const traps = {
  "the condition of an index": "create index i on public.theirs (id) where public.trap()",
  "an expression of an index": "create index i on public.theirs ((case when public.trap() then id end))",
  "an operator in an index": `
    create function public.trapped(int, int) returns boolean language plpgsql immutable as $$
      begin perform public.tell('trap'); return true; end $$;
    create operator public.&&& (leftarg = int, rightarg = int, function = public.trapped);
    create index i on public.theirs (id) where 1 operator(public.&&&) 1`,
  "extended statistics": "create statistics public.s on id, (public.trap() and id > 0) from public.theirs",
};

for (const [what, statement] of Object.entries(traps)) {
  test(`a table is not read where ${what} would run code of others`, async ({ database, attacker }) => {
    const { sql } = database;
    await makeApp(database, attacker);
    await attacker.sql.unsafe(planted("trap", "", "boolean", "true")).simple();
    await attacker.sql.unsafe(statement).simple();
    await sql`delete from public.ran`;
    await sql`select from public.theirs where id = 1 and note = 'a'`;
    expect(await ranAsOwner(database)).toEqual(["trap"]);
    await sql`delete from public.ran`;

    await sql`select migration_guard.put_plan('v1', ${sql.json(plan)}, 'test')`;
    await expect(sql`select migration_guard.enqueue_backup('v1', 'test')`).rejects.toMatchObject({
      code: "MG040",
      message: expect.stringContaining(attacker.name),
    });
    expect(await ranAsOwner(database)).toEqual([]);
    // Whoever trusts the function makes it his own.
    await database.connect(superuser).unsafe(`
      alter function public.trap() owner to postgres;
      do $$ begin alter function public.trapped(int, int) owner to postgres; exception when undefined_function then null; end $$`)
      .simple();
    expect(await tryBackUp(sql, "v1", plan)).toMatchObject({ error: null });
  });

  test(`a diff and a rollback do not read a table where ${what} came later`, async ({ database, attacker }) => {
    const { sql } = database;
    await makeApp(database, attacker);
    expect(await tryBackUp(sql, "v1", plan)).toMatchObject({ error: null });
    await attacker.sql.unsafe(planted("trap", "", "boolean", "true")).simple();
    await attacker.sql.unsafe(statement).simple();
    await attacker.sql`alter table public.theirs disable trigger each_row`;
    await attacker.sql`insert into public.theirs values (4, 'ok', 'd')`;
    await sql`delete from public.ran`;
    await sql`select migration_guard.enqueue_diff('v1', 'test')`;
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ error: { code: "untrusted_code" } });
    const rollback = await planRollback(sql, "v1", { data: { theirs: "restore" }, drop_new: "all" });
    expect(rollback.cannot_undo).toContainEqual({
      object: expect.any(String),
      why: expect.stringContaining(attacker.name),
      blocks: true,
    });
    expect(await ranAsOwner(database)).toEqual([]);
  });
}

test("a check is not called to find out whether a table has rows", async ({ database, attacker }) => {
  await makeApp(database, attacker);
  await attacker.sql.unsafe(planted("trap", "", "boolean", "true")).simple();
  // A large table is read in pieces, each with a condition that its checks could rule out.
  await attacker.sql.unsafe(`
    alter table public.theirs disable trigger user;
    insert into public.theirs select n, 'ok', repeat(md5(n::text), 30) from generate_series(10, 80000) as n;
    alter table public.theirs add check (public.trap())`).simple();
  const { sql } = database;
  await sql`delete from public.ran`;
  await sql`set constraint_exclusion = on`;
  await sql`select from public.theirs where id = 1`;
  expect(await ranAsOwner(database)).toEqual(["trap"]);
  await sql`delete from public.ran`;
  expect(await tryBackUp(sql, "v1", plan)).toMatchObject({ error: null });
  await sql`select migration_guard.enqueue_diff('v1', 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ error: null });
  expect(await ranAsOwner(database)).toEqual([]);
});

// What a rollback would run

const readers = {
  "values of a new attribute are kept": "alter type public.addr add attribute zip text",
  "values of a column that was generated are kept": "alter table public.theirs alter twice drop expression",
  "the greatest number of rows is asked for":
    "alter table public.theirs alter id drop default; insert into public.theirs (id) values (9)",
} as const;

for (const [why, migration] of Object.entries(readers)) {
  test(`a rollback does not read a table that could run code of others where ${why}`, async ({ database, attacker }) => {
    const { sql } = database;
    await attacker.sql.unsafe(tell);
    await sql`create type public.addr as (street text)`;
    await attacker.sql.unsafe(`
      create table public.theirs (id serial primary key, a public.addr, twice int generated always as (1 + 1) stored);
      insert into public.theirs (a) values (row('x'));
      grant all on public.theirs, public.theirs_id_seq to postgres`).simple();
    expect(await tryBackUp(sql, "v1", { schema: "public", tables: ["theirs"] })).toMatchObject({ error: null });
    await attacker.sql.unsafe(planted("trap", "", "boolean", "true")).simple();
    await attacker.sql`create index on public.theirs (a) where public.trap()`;
    await database.connect(superuser).unsafe(migration).simple();
    await sql`delete from public.ran`;
    const { cannot_undo } = await planRollback(sql, "v1", { drop_new: "all" });
    expect(cannot_undo).toContainEqual({
      object: expect.any(String),
      why: expect.stringMatching(`Postgres could call public.trap.*${attacker.name}`),
      blocks: true,
    });
    expect(await ranAsOwner(database)).toEqual([]);
  });
}

const parts = {
  "a check": [
    "alter table public.app add constraint part check (public.trap(id))",
    "alter table public.app drop constraint part",
  ],
  "a generated column": [
    "alter table public.app add column part boolean generated always as (public.trap(id)) stored",
    "alter table public.app drop column part",
  ],
  "a default of a table that is made anew": [
    "alter table public.app add column part boolean default public.trap(1)",
    "alter table public.app drop column gone",
  ],
  "a domain": [
    "create domain public.part as int check (public.trap(value)); alter table public.app add column part public.part",
    "alter table public.app drop column gone",
  ],
} as const;

for (const [what, [before, migration]] of Object.entries(parts)) {
  test(`a rollback is refused that would run code of others by ${what}`, async ({ database, attacker }) => {
    const { sql } = database;
    await attacker.sql.unsafe(tell);
    await attacker.sql.unsafe(planted("trap", "int", "boolean", "true")).simple();
    await sql.unsafe(`create table public.app (id int primary key, gone text); insert into public.app values (1, 'g')`)
      .simple();
    await sql.unsafe(before).simple();
    const made = await tryBackUp(sql, "v1", { schema: "public", tables: ["app"] });
    expect(made.error).toBeNull();
    await sql.unsafe(migration).simple();
    await sql`delete from public.ran`;
    const { possible, cannot_undo } = await planRollback(sql, "v1");
    expect(possible).toBe(false);
    expect(cannot_undo).toContainEqual(
      expect.objectContaining({ why: expect.stringMatching(`trap.*owned by ${attacker.name}`), blocks: true }),
    );
    await expect(tryRollBack(sql, "v1")).rejects.toMatchObject({ code: "MG022" });
    expect(await ranAsOwner(database)).toEqual([]);
    await database.connect(superuser).unsafe("alter function public.trap(int) owner to postgres");
    expect((await planRollback(sql, "v1")).cannot_undo.filter(({ why }) => why.includes("trap"))).toEqual([]);
  });
}

test("a rollback is refused that would make values by a cast of others", async ({ database, attacker }) => {
  const { sql } = database;
  await makeApp(database, attacker);
  await attacker.sql.unsafe(`${planted("text_mood", "text", "public.mood", "'ok'")}
    create cast (text as public.mood) with function public.text_mood(text)`).simple();
  expect(await tryBackUp(sql, "v1", plan)).toMatchObject({ error: null });
  await sql.unsafe(migrations.restore).simple();
  await sql`delete from public.ran`;
  const { cannot_undo } = await planRollback(sql, "v1", { data: "restore" });
  expect(cannot_undo).toContainEqual(
    expect.objectContaining({ why: expect.stringMatching(`text_mood.*owned by ${attacker.name}`), blocks: true }),
  );
  expect(await ranAsOwner(database)).toEqual([]);
});

test("the keys of rows that a rollback cannot convert are shown without a cast of others", async ({ database, attacker }) => {
  const { sql } = database;
  await makeApp(database, attacker);
  await sql.unsafe(`
    create table public.felt (m public.mood, n int, c int check (c > 0), primary key (m));
    insert into public.felt values ('sad', 1, 1)`).simple();
  expect(await tryBackUp(sql, "v1", { schema: "public", tables: ["felt"] })).toMatchObject({ error: null });
  await sql.unsafe(`alter table public.felt drop constraint felt_c_check; insert into public.felt values ('ok', 2, -1)`)
    .simple();
  await sql`delete from public.ran`;
  expect((await tryRollBack(sql, "v1")).error).toMatchObject({ code: "rows_violate_constraint", keys: [{ m: "ok" }] });
  expect(await ranAsOwner(database)).toEqual([]);
});

test("a rollback is refused that would make an index whose function belongs to others now", async ({ database, attacker }) => {
  const { sql } = database;
  await sql.unsafe(tell);
  await sql.unsafe(planted("trap", "int", "boolean", "true")).simple();
  await sql.unsafe(`
    create table public.app (id int primary key); insert into public.app values (1);
    create index part on public.app ((public.trap(id)))`).simple();
  expect(await tryBackUp(sql, "v1", { schema: "public", tables: ["app"] })).toMatchObject({ error: null });
  await sql`drop index public.part`;
  await database.connect(superuser).unsafe(`alter function public.trap(int) owner to ${attacker.name}`);
  await sql`delete from public.ran`;
  expect((await planRollback(sql, "v1")).cannot_undo).toContainEqual({
    object: "index public.part",
    why: expect.stringMatching(`trap.*owned by ${attacker.name}`),
    blocks: true,
  });
  expect(await ranAsOwner(database)).toEqual([]);
});

// What a rollback would do to something else than the table that it was planned for

const toldAsOwner = `
  create sequence public.told;
  grant usage on public.told to postgres;
  create function public.trap() returns boolean language plpgsql immutable as $$
    begin if current_user = 'postgres' then perform nextval('public.told'); end if; return true; end $$;`;
const wasTold = async (sql: postgres.Sql) => (await sql`select is_called from public.told`)[0]!.is_called;

const exchanges = {
  "a view": "create view public.theirs as select * from public.hidden where public.trap()",
  "a table with another index":
    "create table public.theirs as table public.hidden; create index on public.theirs (id) where public.trap()",
};

for (const [what, exchange] of Object.entries(exchanges)) {
  test(`${what} that takes the place of a table before a rollback has locked it is not read`, async ({ database, attacker }) => {
    const { sql } = database;
    const [admin, reader] = [database.connect(superuser), database.connect(superuser)];
    await attacker.sql.unsafe(`${toldAsOwner}
      create table public.earlier (id int primary key, note text);
      create table public.theirs (id int primary key, note text);
      insert into public.theirs values (1, 'a'), (2, 'b');
      grant all on public.earlier, public.theirs to postgres`).simple();
    await admin.unsafe(`grant ${attacker.name} to postgres`);
    expect(await tryBackUp(sql, "v1", { schema: "public", tables: ["earlier", "theirs"] }))
      .toMatchObject({ error: null });
    await attacker.sql.unsafe(`
      alter table public.earlier rename column note to other;
      alter table public.theirs add extra text default 'x'`).simple();
    const { plan_hash, statements } = await planRollback(sql, "v1");
    const locks = statements.map(({ statement }) => statement).filter((s) => s.startsWith("lock table"));
    expect(locks).toEqual(["earlier", "theirs"].map((name) => `lock table public.${name} in access exclusive mode`));
    await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, '{}', false, 'test')`;

    await reader.unsafe("begin; select from public.earlier").simple();
    const working = work(sql);
    await heldJob(admin);
    await attacker.sql.unsafe(`alter table public.theirs rename to hidden; ${exchange}`).simple();
    await reader`commit`;
    await working;
    expect(await wasTold(admin)).toBe(false);
    expect(await lastJob(admin)).toMatchObject({
      error: { code: "plan_changed", message: expect.stringContaining("public.theirs") },
    });
  });
}

test("a view that takes the place of a table is not read to tell which rows a foreign key to it refuses", async ({ database, attacker }) => {
  const { sql } = database;
  const [admin, writer] = [database.connect(superuser), database.connect(superuser)];
  await attacker.sql.unsafe(`${toldAsOwner}
    create table public.theirs (id int primary key);
    insert into public.theirs values (1);
    grant all on public.theirs to postgres`).simple();
  await admin.unsafe(`grant ${attacker.name} to postgres`);
  await sql`create table public.app (id int primary key, theirs int references public.theirs)`;
  expect(await tryBackUp(sql, "v1", { schema: "public", tables: ["app"] })).toMatchObject({ error: null });
  await sql.unsafe("alter table public.app drop constraint app_theirs_fkey; insert into public.app values (1, 2)")
    .simple();
  const { plan_hash } = await planRollback(sql, "v1");
  await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, '{}', false, 'test')`;

  // The owner waits for the lock that the failed key gives back.
  await writer.unsafe("begin; lock table public.theirs in row exclusive mode").simple();
  const working = work(sql);
  await heldJob(admin);
  const exchanging = attacker.sql.unsafe(`
    alter table public.theirs rename to hidden;
    create view public.theirs as select * from public.hidden where public.trap()`).simple().execute();
  await until(async () =>
    (await admin`select from pg_locks where not granted and relation = 'public.theirs'::regclass`).length === 2
  );
  await writer`commit`;
  await Promise.all([working, exchanging]);
  expect(await wasTold(admin)).toBe(false);
  expect(await lastJob(admin)).toMatchObject({
    error: { code: "rows_violate_constraint", constraint: "app_theirs_fkey", keys: [] },
  });
});
