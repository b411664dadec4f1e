import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test as base } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { createOwnServer, ownDatabase, type OwnServer } from "../support/own-server.ts";
import { planRollback, readPlan, rollBack } from "../support/rollback.ts";

// The fingerprint has the names of all roles, which other tests make and drop.
let server: OwnServer;
beforeAll(async () => {
  server = await createOwnServer();
});
afterAll(() => server.remove());

const test = base.extend<{ database: TestDatabase }>({
  database: async ({}, use) => {
    const database = await createDatabase(ownDatabase, server.port);
    await use(database);
    await database.drop();
  },
});

/** What alterations are made of: of each kind of object one, to be altered. */
const before = `
  create type mood as enum ('sad', 'happy');
  create table t (id int primary key, v text default 'x', m mood, ts tsvector);
  create table old_parent (id int);
  create table child () inherits (old_parent);
  create table whole (id int) partition by list (id);
  create sequence s;
  create function f(x int) returns int immutable language sql as 'select x + 1';
  create aggregate total(int) (sfunc = int4pl, stype = int);
  create view shown as select id from t;
  create trigger touched before update on t for each row execute function suppress_redundant_updates_trigger();
  create policy p on t using (id > 0);
  create statistics st on id, v from t;
  create publication pub for table t;
  create foreign data wrapper fdw;
  create server there foreign data wrapper fdw;
  create foreign table far (id int) server there;
  create text search configuration words (copy = simple);
  create text search dictionary stems (template = simple);
  create collation plain (locale = 'C');
  create operator === (leftarg = int, rightarg = int, function = int4eq);
  create operator family ints using btree;
  create operator class int_ops for type int using btree family ints as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
  create cast (mood as int) with inout;
  create access method another type index handler bthandler;
  create trusted language tongue handler plpgsql_call_handler;
  create extension citext;
  comment on table t is 'As it was.';
`;

/** Statements that alter what a definition could say. */
const alterations = [
  "alter schema app rename to other",
  "alter table t rename to u",
  "alter table t rename v to w",
  "alter table t alter v set default 'y'",
  "alter table t alter v drop default",
  "alter table t alter v set statistics 7",
  "alter table t enable row level security",
  "alter table t disable trigger touched",
  "alter table t drop constraint t_pkey",
  "alter table t add check (id > 0)",
  "alter table t owner to postgres",
  "grant select on t to anon",
  "create index on t (v)",
  "alter index t_pkey rename to other",
  "alter table child no inherit old_parent",
  "create table part partition of whole default",
  "alter sequence s increment 7",
  "alter sequence s owned by t.id",
  "alter foreign table far options (add x 'y')",
  "alter trigger touched on t rename to other",
  "create or replace view shown as select id + 0 as id from t",
  "alter policy p on t using (true)",
  "alter statistics st set statistics 7",
  "alter publication pub set (publish = 'insert')",
  "alter publication pub drop table t",
  "alter publication pub add tables in schema app",
  "alter default privileges in schema app grant select on tables to anon",
  "create or replace function f(x int) returns int immutable language sql as 'select x + 2'",
  "create or replace aggregate total(int) (sfunc = int4pl, stype = int, initcond = '7')",
  "alter type mood rename value 'sad' to 'glum'",
  "alter type mood add value 'calm'",
  "create type span as range (subtype = int)",
  "alter collation plain rename to other",
  "alter operator ===(int, int) set schema public",
  "alter operator class int_ops using btree rename to other",
  "alter operator family ints using btree rename to other",
  "update pg_am set amname = 'other' where amname = 'another'",
  "drop cast (mood as int)",
  "alter language tongue rename to other",
  "alter tablespace pg_default rename to other",
  "alter server there rename to other",
  "alter foreign data wrapper fdw rename to other",
  "alter text search configuration words rename to other",
  "alter text search dictionary stems rename to other",
  "comment on table t is 'As it is.'",
  "comment on table t is null",
  "comment on column t.v is 'As it is.'",
  "alter extension citext drop function citext_cmp(citext, citext)",
  "alter extension citext set schema public",
  "alter function f(int) depends on extension citext",
  "alter index t_pkey depends on extension citext",
  "alter trigger touched on t depends on extension citext",
  "alter role anon rename to other",
  // Nothing but a default names it, which no dependency tells.
  "alter role nobodys rename to other",
];

/** What depends on each other in the ways that are there, and is in no family of tables. The plan names one table of it. */
const related = `
  create schema app; set search_path = app;
  create type mood as enum ('sad', 'happy');
  create type place as (street text, city text);
  create type worth as (amount int, felt mood);
  create domain price as worth;
  create domain email as text check (value like '%@%');
  create type span as range (subtype = int);
  create sequence numbers;
  create function plus(x int, y int default 1) returns int immutable language sql as 'select x + y';
  create function plus(x text) returns int immutable language sql as 'select 1';
  create function touch() returns trigger language plpgsql as 'begin return new; end';
  create function told(w worth) returns text language sql as 'select 1::text';
  create table priced (id int primary key, worth worth default '(1,sad)'::worth, worths worth[], price price, exclude using gist (int4range(plus(id), 100) with &&));
  create function first_mood() returns mood stable language sql begin atomic select 'sad'::mood; end;
  create table customer (
    id int generated always as identity primary key, name text not null, mood mood default first_mood(), home place, mail email default 'a@b', number int default nextval('numbers'),
    next int generated always as (plus(1)) stored, other text collate "C" default 'x', unique (name));
  alter sequence numbers owned by customer.number;
  create table bill (id int primary key, customer int references customer on delete cascade, net numeric check (plus(net::int) > 0), paid span, mails text[]);
  create table line (bill int references bill, position int, primary key (bill, position));
  create table unrelated (id int primary key, v text);
  create index customer_mood on customer (mood) where mood <> 'sad';
  create index bill_plus on bill (plus(id));
  create unique index line_position on line (position);
  alter table line alter position set not null, replica identity using index line_position;
  alter table customer cluster on customer_name_key;
  create statistics customer_numbers on id, number from customer;
  create view debtor with (security_invoker = true) as select c.id, c.name, c.mood, b.net from customer as c join bill as b on b.customer = c.id;
  create view sad_debtor as select d.*, plus(d.id) as next from debtor as d where d.mood = 'sad';
  create materialized view total as select customer, sum(net) from bill group by 1;
  create function debts(of_whom debtor) returns numeric stable language sql as 'select $1.net';
  create function all_debts() returns setof debtor stable language sql begin atomic select * from debtor; end;
  create view told as select d.name, debts(d) from debtor as d;
  create rule divert as on delete to unrelated do instead update unrelated set v = 'gone' where id = old.id;
  create trigger touched before update of name on customer for each row when (old.mood <> new.mood) execute function touch();
  create trigger touched after insert on bill for each row execute function touch();
  alter table customer enable row level security;
  alter table line enable row level security;
  create policy own on customer using (name = current_user);
  create policy own on line using (exists (select from bill as b join customer as c on c.id = b.customer where b.id = bill and c.name = current_user));
  create publication pub for table customer (id, name), unrelated where (id > 0);
  comment on table customer is 'Who pays.'; comment on column customer.name is 'Whose?'; comment on constraint bill_pkey on bill is 'A key.';
  grant select (id, name) on customer to anon; grant select on debtor to anon; grant execute on function plus(int, int) to anon;
  insert into customer (name) values ('a'); insert into bill values (1, 1, 7); insert into line values (1, 1); insert into unrelated values (1, 'x');
  refresh materialized view total;
`;

/** Each alone, in the schema app: what a migration does. */
const migrations = [
  "alter table customer rename to client",
  "alter table customer rename name to title",
  "alter table customer rename constraint customer_name_key to other",
  "alter table customer alter name drop not null",
  "alter table customer alter other type varchar(20)",
  "alter table customer alter number drop default",
  "alter table customer alter other set default 'y'",
  "alter table customer alter id drop identity",
  "alter table customer alter id set generated by default",
  "alter table customer alter other set statistics 7",
  "alter table customer drop column next",
  "alter table customer drop column mood cascade",
  "alter table customer add column added mood default 'happy'",
  "alter table customer add check (id > 0)",
  "alter table customer set without cluster",
  "alter table customer disable row level security",
  "alter table customer disable trigger all",
  "alter table bill disable trigger all",
  "alter table customer set (fillfactor = 70)",
  "alter table customer set (autovacuum_enabled = off, toast.autovacuum_enabled = off)",
  "alter table line set unlogged",
  "alter table customer owner to service_role",
  "alter table bill drop constraint bill_customer_fkey",
  "alter table bill drop constraint bill_net_check",
  "alter table bill add foreign key (id) references unrelated",
  "alter table bill alter constraint bill_customer_fkey deferrable",
  "alter table line drop constraint line_pkey",
  "alter table line replica identity full",
  "drop index line_position",
  "drop index customer_mood",
  "alter index customer_mood rename to other",
  "alter index bill_plus set (fillfactor = 70)",
  "create index on unrelated (v)",
  "alter index unrelated_pkey rename to customer_of_old",
  "drop table line",
  "drop table bill cascade",
  "drop table unrelated",
  "drop table customer cascade",
  "drop table unrelated; create table unrelated (id int primary key, v text, w int)",
  "create table added (id int primary key, customer int references customer, mood mood)",
  "create table added (like unrelated including all); alter table unrelated rename to old; alter table added rename to unrelated",
  "alter sequence numbers increment 7",
  "alter sequence numbers owned by none",
  "alter sequence customer_id_seq rename to other",
  "select setval('numbers', 1000)",
  "alter type mood rename value 'sad' to 'glum'",
  "alter type mood rename to spirit",
  "alter type worth rename attribute felt to sensed",
  "alter type mood add value 'calm' before 'happy'",
  "alter type mood rename to spirit; alter type worth rename to value",
  "alter type place rename attribute city to town",
  "alter type place add attribute zip text",
  "alter type span rename to stretch",
  "alter domain email drop constraint email_check",
  "alter domain email set not null",
  "alter domain email rename to address",
  "alter function plus(int, int) rename to add",
  "alter function plus(text) rename to add",
  "create function plus(x int, y int, z int default 1) returns int immutable language sql as 'select x'",
  "create or replace function plus(x int, y int default 2) returns int immutable language sql as 'select x + y'",
  "alter function plus(int, int) cost 7",
  "alter function plus(int, int) owner to service_role",
  "revoke execute on function plus(int, int) from anon",
  "drop function plus(int, int) cascade",
  "drop function plus(text)",
  "alter function touch() rename to other",
  "alter function first_mood() rename to other",
  "create or replace function first_mood() returns mood stable language sql begin atomic select 'happy'::mood; end",
  "alter view debtor rename to debitor",
  "alter view debtor rename column net to amount",
  "alter view debtor set (security_invoker = false)",
  "create or replace view debtor with (security_invoker = true) as select c.id, c.name, c.mood, b.net, 1 as one from customer as c join bill as b on b.customer = c.id",
  "drop view told",
  "drop view sad_debtor; drop view told",
  "alter materialized view total rename to sums",
  "drop materialized view total",
  "drop rule divert on unrelated",
  "drop trigger touched on customer",
  "alter trigger touched on bill rename to other",
  "alter table bill disable trigger touched",
  "drop policy own on customer",
  "alter policy own on line using (true)",
  "alter policy own on line rename to other",
  "drop statistics customer_numbers",
  "alter statistics customer_numbers rename to other",
  "alter publication pub drop table customer",
  "alter publication pub set table customer (id), unrelated",
  "comment on table customer is null",
  "comment on column customer.name is 'Who?'",
  "comment on constraint bill_pkey on bill is null",
  "comment on function touch() is 'New.'",
  "revoke select (id) on customer from anon",
  "grant insert on bill to anon",
  "revoke insert on unrelated from postgres",
  "alter table unrelated set schema public",
  "alter function touch() set schema public",
  "alter type mood set schema public",
  "create view public.seen as select * from customer",
  "create view public.seen as select * from unrelated",
  "create table public.far (customer int references app.customer)",
  "create schema elsewhere create table t (id int)",
  "alter schema app rename to other",
  "alter default privileges in schema app grant select on tables to anon",
  "update customer set name = 'b'; delete from line",
];

const fingerprint = async (sql: postgres.Sql) => {
  const [found] = await sql<
    { value: string | null }[]
  >`select fingerprint as value from migration_guard.object_versions()`;
  return found!.value;
};

test("each alteration gives the catalog another fingerprint", async ({ database: { connect } }) => {
  const sql = connect(superuser);
  await sql.unsafe(`create role nobodys; create schema app; set search_path = app, public; ${before}`).simple();
  const original = await fingerprint(sql);
  expect(original).toMatch(/^\d+\/-?\d+$/);
  const altered = new Set<string>();
  const versions = `select distinct v.catalog::regclass::text as name
    from (table seen except all select v.* from migration_guard.catalog_versions as v
      union all (select v.* from migration_guard.catalog_versions as v except all table seen)) as v`;
  // In this very table the place of each version is that of the beginning: a rollback gives it back.
  await sql.unsafe("create temporary table seen as select * from migration_guard.catalog_versions").simple();
  for (const statement of alterations) {
    await sql.unsafe(`begin; ${statement}`).simple();
    expect(await fingerprint(sql), statement).not.toBe(original);
    for (const { name } of await sql.unsafe<{ name: string }[]>(versions)) altered.add(name);
    await sql.unsafe("rollback").simple();
    expect(await fingerprint(sql), `${statement}, undone`).toBe(original);
  }
  // Nothing is looked at for nothing: every catalog of the fingerprint has been altered by one of them.
  const catalogs = await sql<{ name: string }[]>`
    select distinct m[1] as name from regexp_matches(pg_get_viewdef('migration_guard.catalog_versions'::regclass), 'FROM (pg_\\w+)', 'g') as m`;
  expect([...altered].sort()).toEqual(catalogs.map(({ name }) => name).sort());
});

test("roles that have exchanged their names give the catalog another fingerprint", async ({ database: { connect } }) => {
  const sql = connect(superuser);
  const names = Array.from({ length: 8 }, (_, number) => `exchanged_${number}`);
  // Together, since two hashes that are added up may give the same when what they are of is exchanged.
  await sql.unsafe(`begin; ${names.map((name) => `create role ${name};`).join("")}`).simple();
  try {
    for (let number = 0; number < names.length; number += 2) {
      const original = await fingerprint(sql);
      const [one, other] = names.slice(number);
      await sql.unsafe(`savepoint before; alter role ${one} rename to nobody_else; alter role ${other} rename to ${one};
        alter role nobody_else rename to ${other}`).simple();
      expect(await fingerprint(sql)).not.toBe(original);
      await sql.unsafe("rollback to before").simple();
    }
  } finally {
    await sql.unsafe("rollback").simple();
  }
});

test("what comes and goes without a migration leaves the fingerprint as it is", async ({ database: { sql, connect } }) => {
  await sql.unsafe(`
    create table public.t (id serial primary key, v text);
    insert into public.t (v) select n::text from generate_series(1, 100) as n;
  `).simple();
  const original = await fingerprint(sql);
  for (
    const statement of [
      "update public.t set v = 'x' where id < 50; delete from public.t where id > 90; select nextval('public.t_id_seq')",
      "vacuum analyze public.t",
      "vacuum freeze public.t",
      "create temporary table public_t (id serial primary key, v text default 'x' check (v <> '')); comment on table public_t is 'Gone soon.'",
      "create function pg_temp.f() returns int language sql as 'select 1'",
    ]
  ) {
    for (const part of statement.startsWith("vacuum") ? [statement] : statement.split("; ")) await sql.unsafe(part);
    expect(await fingerprint(sql), statement).toBe(original);
  }
  await connect(superuser).unsafe("vacuum freeze");
  expect(await fingerprint(sql), "vacuum freeze").toBe(original);
  await backUp(sql, "v1", { tables: ["t"] });
  expect(await fingerprint(sql), "a backup").toBe(original);
  await backUp(sql, "v2", { tables: ["t"] });
  expect(await fingerprint(sql), "another backup").toBe(original);
  await sql`drop schema migration_backup_v2 cascade`;
  expect(await fingerprint(sql), "without that").toBe(original);
  const [recorded] = await sql`select catalog_fingerprint from migration_guard.backups where version = 'v1.0'`;
  expect(recorded).toEqual({ catalog_fingerprint: original });
});

test("there is none while something depends on what comes and goes", async ({ database: { sql } }) => {
  await sql`create table public.t (id int)`;
  await backUp(sql, "v1", { tables: ["t"] });
  const original = await fingerprint(sql);
  await sql`create view public.shown as select id from migration_backup_v1.t_backup`;
  expect(await fingerprint(sql)).toBeNull();
  await backUp(sql, "v2", { tables: ["t"] });
  // The text of the view is another now, and no row of its own has been written anew.
  await sql`alter table migration_backup_v1.t_backup rename to other`;
  expect((await diff(sql, "v2")).result.catalog).toEqual({
    read: "definitions",
    definitions_read_because: expect.stringMatching(/no fingerprint/),
  });
  await sql`alter table migration_backup_v1.other rename to t_backup`;
  await sql`drop view public.shown`;
  expect(await fingerprint(sql)).toBe(original);
});

const goingWithAPassingTable = [
  [
    "statistics on a copy",
    "create statistics public.st on id, v from migration_backup_v1.t_backup",
    "drop statistics public.st",
  ],
  [
    "statistics on a temporary table",
    "create temporary table x (id int, v text); create statistics public.st on id, v from x",
    "drop table x",
  ],
  [
    "a partition of a table in a schema of that kind",
    "create schema migration_backup_mine; create table migration_backup_mine.parent (id int) partition by list (id); create table public.child partition of migration_backup_mine.parent default",
    "drop table migration_backup_mine.parent; drop schema migration_backup_mine",
  ],
  [
    "a key that refers to a protected table from there",
    "create schema migration_backup_mine; create table migration_backup_mine.x (id int references public.t)",
    "drop table migration_backup_mine.x; drop schema migration_backup_mine",
  ],
] as const;

for (const [what, make, unmake] of goingWithAPassingTable) {
  test(`${what} does not come and go unseen`, async ({ database: { sql } }) => {
    await sql`create table public.t (id int primary key, v text)`;
    await backUp(sql, "v1", { tables: ["t"] });
    await sql.unsafe(make).simple();
    expect(await fingerprint(sql)).toBeNull();
    const told = async () => {
      const { result } = await diff(sql, "v1");
      return { objects: result.objects, catalog: result.catalog };
    };
    expect(await told()).toMatchObject({ catalog: { read: "definitions" } });
    expect((await told()).objects).toEqual((await diff(sql, "v1", true)).result.objects);
    await sql.unsafe(unmake).simple();
    expect(await fingerprint(sql)).not.toBeNull();
  });
}

test("statistics on a temporary table are not recorded, wherever they are", async ({ database: { sql } }) => {
  await sql`create table public.t (id int primary key, v text)`;
  await sql`create temporary table x (id int, v text)`;
  await sql`create statistics public.st on id, v from x`;
  await backUp(sql, "v1", { tables: ["t"] });
  expect(await sql`select identity from migration_backup_v1.objects_backup where kind = 'statistics'`).toEqual([]);
  await sql`drop table x`;
  expect((await diff(sql, "v1")).result).toMatchObject({ is_clean: true });
});

test("what goes with an extension since the backup is told, and led back", async ({ database: { sql, connect } }) => {
  await connect(superuser)`create extension citext schema public`;
  await sql.unsafe(`
    create table public.t (id int primary key, v text);
    create index t_v on public.t (v);
    create function public.f() returns int language sql as 'select 1';
    create function public.g() returns int language sql as 'select 1';
    alter function public.g() depends on extension citext;
    create trigger tr before update on public.t for each row execute function suppress_redundant_updates_trigger();
    create materialized view public.mv as select 1 as x;
  `).simple();
  await backUp(sql, "v1", { tables: "*" });
  await sql.unsafe(`
    alter function public.f() depends on extension citext;
    alter function public.g() no depends on extension citext;
    alter index public.t_v depends on extension citext;
    alter trigger tr on public.t depends on extension citext;
    alter materialized view public.mv depends on extension citext;
    insert into public.t values (1, 'x');
  `).simple();
  const objects = (await diff(sql, "v1")).result.objects as { object: string }[];
  expect(objects.map(({ object }) => object).sort()).toEqual([
    "public.f()",
    "public.g()",
    "public.mv",
    "public.t_v",
    "tr on public.t",
  ]);
  await rollBack(sql, "v1", { data: "restore" });
  expect(await sql`select * from public.t`).toEqual([]);
  expect((await diff(sql, "v1", true)).result).toMatchObject({ is_clean: true });
  const bound = await sql<{ objid: string }[]>`
    select pg_describe_object(classid, objid, 0) as object from pg_depend where deptype = 'x'`;
  expect(bound).toEqual([{ object: "function g()" }]);
  expect((await planRollback(sql, "v1")).statements).toEqual([]);
});

test("a backup that was loaded from elsewhere is compared by its definitions and values", async ({ database: { sql } }) => {
  await sql`create table public.t (id int primary key, v text)`;
  await sql`insert into public.t values (1, 'x')`;
  await backUp(sql, "v1", { tables: ["t"] });
  expect((await diff(sql, "v1")).result.catalog).toMatchObject({ read: "row versions" });
  await sql.unsafe(`
    create temporary table loaded as select * from migration_backup_v1.backup_metadata;
    delete from migration_backup_v1.backup_metadata;
    insert into migration_backup_v1.backup_metadata select * from loaded;
  `).simple();
  const reason = expect.stringMatching(/another history/);
  expect((await diff(sql, "v1")).result).toMatchObject({
    is_clean: true,
    catalog: { read: "definitions", definitions_read_because: reason },
    tables: [{ read: "values", values_read_because: reason }],
  });
});

test("so is one of another timeline of the server", async ({ database: { sql } }) => {
  await sql`create table public.t (id int primary key, v text)`;
  await backUp(sql, "v1", { tables: ["t"] });
  await sql`update migration_guard.backups set timeline = timeline + 1`;
  expect((await diff(sql, "v1")).result.catalog).toMatchObject({
    definitions_read_because: expect.stringMatching(/another history/),
  });
});

describe("what a migration has altered", () => {
  /** Those of which more can have another definition than depends on it. */
  const readInFull = /^alter (schema|default privileges)/;

  test(
    "is planned and compared as if everything had been read",
    { timeout: 300_000 },
    async ({ database: { sql, connect } }) => {
      const admin = connect(superuser);
      await sql.unsafe(related).simple();
      await backUp(sql, "v1", { schema: "app", tables: ["customer"] });
      const inFull: string[] = [];
      const untold: string[] = [];
      for (const migration of migrations) {
        await admin.unsafe(`begin; set local search_path = app; ${migration}`).simple();
        const [known] = await admin<[{ altered: number[] | null }]>`
        select altered from migration_guard.altered_objects('migration_backup_v1')`;
        if (known.altered === null) inFull.push(migration);
        if (known.altered?.length === 0) untold.push(migration);
        for (const options of [{ data: "keep" }, { data: "restore", drop_new: "all" }] as const) {
          const plan = () => admin`select * from migration_guard.plan_rollback('v1', ${admin.json(options)}, 'test')`;
          const drift = () =>
            admin`select d.* from migration_guard.backups as b cross join lateral migration_guard.schema_drift(b) as d`;
          const [planned, drifted] = [await plan(), await drift()];
          await admin.unsafe("savepoint known; update migration_guard.backups set catalog_fingerprint = null").simple();
          expect([...await plan()], `${migration}: ${options.data}`).toEqual([...planned]);
          expect([...await drift()], `${migration}: drift`).toEqual([...drifted]);
          await admin.unsafe("rollback to savepoint known").simple();
        }
        await admin.unsafe("rollback").simple();
      }
      expect(inFull).toEqual(migrations.filter((migration) => readInFull.test(migration)));
      expect(untold).toEqual(migrations.filter((migration) => /^(update|select)/.test(migration)));
    },
  );

  test("is no more than what it has touched, and what depends on that", async ({ database: { sql } }) => {
    await sql.unsafe(related).simple();
    await backUp(sql, "v1", { schema: "app", tables: ["customer"] });
    await sql`alter table app.bill rename to invoice`;
    const altered = await sql<{ name: string }[]>`
      select c.relname as name from migration_guard.altered_objects('migration_backup_v1') as a join pg_class as c on c.oid = any (a.altered)
      where c.relkind in ('r', 'v', 'm') order by 1`;
    expect(altered.map(({ name }) => name)).toEqual(["debtor", "invoice", "sad_debtor", "told", "total"]);
  });
});

const diff = async (sql: postgres.Sql, version: string, exact = false) => {
  await sql`select migration_guard.enqueue_diff(${version}, 'test', exact => ${exact})`;
  await work(sql);
  return lastJob(sql);
};

describe("a diff", () => {
  test("prints no definition where the fingerprint is as recorded, unless it is to be exact", async ({ database: { sql } }) => {
    await sql`create table public.t (id int)`;
    await backUp(sql, "v1", { tables: ["t"] });
    expect((await diff(sql, "v1")).result).toMatchObject({
      is_clean: true,
      catalog: { read: "row versions", definitions_read_because: null },
    });
    // What only the definitions can tell: the record is another than what is there, though nothing was altered.
    await sql`update migration_backup_v1.objects_backup set comment = 'damaged' where identity = 'public.t'`;
    expect((await diff(sql, "v1")).result).toMatchObject({ is_clean: true });
    expect((await diff(sql, "v1", true)).result).toMatchObject({
      is_clean: false,
      objects: [{ object: "public.t", changes: ["redefined"] }],
      catalog: { read: "definitions", definitions_read_because: null },
    });
  });

  for (
    const [situation, statement, reason] of [
      ["after an alteration", "alter table public.other add column v int", /altered/],
      [
        "in another database",
        "update migration_backup_v1.backup_metadata set database_identity = '1/2'",
        /another database/,
      ],
      [
        "when the numbers of transactions may have come round",
        "update migration_backup_v1.backup_metadata set snapshot = '5000000000:5000000000:'",
        /thousand million/,
      ],
      [
        "of a backup without a fingerprint",
        "update migration_guard.backups set catalog_fingerprint = null",
        /no fingerprint/,
      ],
    ] as const
  ) {
    test(`prints definitions ${situation}, and says so`, async ({ database: { sql } }) => {
      await sql`create table public.t (id int)`;
      await sql`create table public.other (id int)`;
      await backUp(sql, "v1", { tables: ["t"] });
      await sql.unsafe(statement);
      expect((await diff(sql, "v1")).result.catalog).toEqual({
        read: "definitions",
        definitions_read_because: expect.stringMatching(reason),
      });
    });
  }
});

describe("a rollback plan", () => {
  const withoutFingerprint = (sql: postgres.Sql) => sql`update migration_guard.backups set catalog_fingerprint = null`;

  test("of what nobody has altered is the same whether definitions are printed or not, and runs", async ({ database: { sql } }) => {
    await sql`create table public.t (id int primary key, v text default 'x')`;
    await sql`create table public.other (id int references public.t)`;
    await sql`create view public.both_of_them as select t.v from public.t join public.other using (id)`;
    await sql`insert into public.t values (1)`;
    await backUp(sql, "v1", { tables: ["t", "other"] });
    const options = { data: { t: "keep" as const } };
    const plan = await planRollback(sql, "v1", options);
    expect(plan).toMatchObject({
      possible: true,
      statements: [],
      tables: [{ table: "public.other" }, { table: "public.t", backup_rows: 1 }],
    });
    await expect(planRollback(sql, "v1", { data: { unknown: "keep" } })).rejects.toThrow(/unknown/);
    await expect(planRollback(sql, "v1", { drop_new: ["other"] })).rejects.toThrow(/other/);
    const { result } = await rollBack(sql, "v1", options);
    expect(result).toMatchObject({
      no_op: true,
      plan_hash: plan.plan_hash,
      checklist: [],
      catalog: { identical: true },
    });
    await withoutFingerprint(sql);
    expect(await planRollback(sql, "v1", options)).toEqual(plan);
    expect((await rollBack(sql, "v1", options)).result).toMatchObject({ no_op: true, plan_hash: plan.plan_hash });
  });

  test("that puts rows back is the same whether definitions are printed or not", async ({ database: { sql } }) => {
    await sql`create table public.t (id int primary key, v text default 'x')`;
    await sql`create table public.other (id int references public.t)`;
    await sql`insert into public.t values (1), (2)`;
    await backUp(sql, "v1", { tables: ["t", "other"] });
    await sql`update public.t set v = 'y' where id = 2`;
    const plan = await planRollback(sql, "v1", { data: "restore" });
    expect(plan.statements).not.toEqual([]);
    await withoutFingerprint(sql);
    expect(await planRollback(sql, "v1", { data: "restore" })).toEqual(plan);
  });

  test("gives an owner nothing that he had not, whether definitions are printed or not", async ({ database: { sql } }) => {
    await sql`create table public.t (id int primary key)`;
    await sql`create table public.own (id int)`;
    await sql`revoke insert on public.own from current_user, anon, authenticated, service_role`;
    await backUp(sql, "v1", { tables: ["t"] });
    const plan = await planRollback(sql, "v1");
    await withoutFingerprint(sql);
    expect(await planRollback(sql, "v1")).toEqual(plan);
    await rollBack(sql, "v1");
    expect((await sql`select has_table_privilege('public.own', 'insert') as may`)[0]).toEqual({ may: false });
  });
});

test("where an expression has names that no dependency tells, everything is read", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create schema app;
    create table app.a (id int primary key);
    create table app.k (c regclass[] default '{app.a}', d int);
  `).simple();
  await backUp(sql, "v1", { schema: "app", tables: ["a"] });
  await sql`drop table app.a`;
  expect(await sql`select altered from migration_guard.altered_objects('migration_backup_v1')`).toEqual([{
    altered: null,
  }]);
  const { statements } = await planRollback(sql, "v1");
  expect(statements.map(({ statement }) => statement).join("\n")).toMatch(/app\.k alter column c set default/);
  expect((await rollBack(sql, "v1")).result).toMatchObject({ catalog: { identical: true } });
});

describe("what depends on the plan's objects elsewhere", () => {
  test("and is made again by a rollback is known after it", async ({ database: { sql } }) => {
    await sql.unsafe(`
      create schema app; create schema other;
      create table app.a (id int primary key, v text);
      create table other.o (a int constraint o_a_fkey references app.a, w text);
      create view other.seen as select id, v from app.a;
      create statistics other.st on id, v from app.a;
      insert into app.a values (1, 'x'); insert into other.o values (1, 'y');
    `).simple();
    await backUp(sql, "v1", { schema: "app", tables: ["a"] });
    await sql`drop table app.a cascade`;
    await rollBack(sql, "v1", { data: "restore" });
    expect((await diff(sql, "v1", true)).result).toMatchObject({ is_clean: true, objects: [] });
    expect(await planRollback(sql, "v1", { data: "restore" })).toMatchObject({ possible: true, statements: [] });
  });

  test("and is none of the plan's is left alone, whatever was altered beside it", async ({ database: { sql } }) => {
    await sql.unsafe(`
      create schema app; create schema other;
      create table app.z (id int primary key);
      create table app.a (x int, y int);
      create statistics other.st on x, y from app.a;
    `).simple();
    await backUp(sql, "v1", { schema: "app", tables: ["z"] });
    await sql`alter table app.a add n int`;
    await sql`create statistics other.mine on y, x from app.a`;
    expect((await planRollback(sql, "v1")).statements.map(({ statement }) => statement).join("\n")).not.toContain(
      "statistics",
    );
    await rollBack(sql, "v1");
    expect(await sql`select stxname as name from pg_statistic_ext order by 1`).toEqual([{ name: "mine" }, {
      name: "st",
    }]);
  });
});

test("a plan that has overlooked something is drawn by all definitions after it has failed", async ({ database: { sql } }) => {
  // Postgres records no dependency on what such a value names.
  await sql.unsafe(`
    create schema app;
    create type app.pointer as (to_what regclass);
    create table app.a (id int primary key);
    create table app.b (id int primary key, p app.pointer default '(app.a)');
    insert into app.a values (1);
  `).simple();
  await backUp(sql, "v1", { schema: "app", tables: ["a"] });
  await sql`drop table app.a`;
  const known = () => sql`select from migration_guard.backup_versions`;
  expect(await known()).toHaveLength(1);
  const { plan_hash } = await readPlan(sql, "v1");
  await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, '{}', false, 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "rollback_differs" } });
  expect(await sql`select to_regclass('app.a') as a`).toEqual([{ a: null }]);
  expect(await known()).toHaveLength(0);
  expect((await rollBack(sql, "v1")).result).toMatchObject({ catalog: { identical: true } });
  expect(await sql`select id from app.a`).toEqual([{ id: 1 }]);
});
