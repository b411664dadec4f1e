import { randomUUID } from "node:crypto";
import { describe, expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { planRollback, rollBack } from "../support/rollback.ts";

/** Backs up a schema that needs things of another one, and a role; then something is changed. */
async function change(database: TestDatabase, statements: string) {
  await database.sql.unsafe(`
    create schema app;
    create schema priv;
    create type app.mood as enum ('good', 'bad');
    create function priv.is_ok() returns bool language sql as 'select true';
    create function priv.is_good(app.mood) returns bool language sql immutable as 'select true';
    create table priv.x (id int primary key, name text);
    create type priv.e as enum ('x');
    create sequence priv.s;
    create table app.t (
      id int primary key default nextval('priv.s'), x int references priv.x, e priv.e, m app.mood, check (priv.is_good(m)));
    create view app.v as select id, name from priv.x;
    create policy p on app.t using (priv.is_ok());
    insert into app.t values (1)`).simple();
  await backUp(database.sql, "v1", { schema: "app", tables: "*" });
  await database.sql.unsafe(`${statements}; alter table app.t add y int`).simple();
}

const bars = async (database: TestDatabase, options = {}) => {
  const { possible, cannot_undo } = await planRollback(database.sql, "v1", options);
  expect(possible).toBe(cannot_undo.length === 0);
  return cannot_undo.map(({ object, why }) => `${object}: ${why}`);
};

describe("what the schema needs elsewhere bars the way, until it is as it was,", () => {
  test.for<[string, string, string, string]>([
    [
      "when a function has another name",
      "alter function priv.is_ok() rename to is_fine",
      "function priv.is_ok(): it goes by priv.is_fine() now, and policy p on app.t needs it as it was: rename it back first",
      "alter function priv.is_fine() rename to is_ok",
    ],
    [
      "when a function was dropped",
      "drop policy p on app.t; drop function priv.is_ok()",
      "function priv.is_ok(): it is gone, and policy p on app.t needs it: make it again first",
      "create function priv.is_ok() returns bool language sql as 'select true'",
    ],
    [
      "when a column of a view has another name",
      "alter table priv.x rename name to title",
      "table column priv.x.name: it goes by priv.x.title now, and view app.v needs it as it was: rename it back first",
      "alter table priv.x rename title to name",
    ],
    [
      "when a table that a key refers to was dropped",
      "drop view app.v; alter table app.t drop constraint t_x_fkey; drop table priv.x",
      "table column priv.x.id: it is gone, and constraint t_x_fkey on app.t needs it: make it again first",
      "create table priv.x (id int primary key, name text)",
    ],
    [
      "when a type has another name",
      "alter type priv.e rename to f",
      "type priv.e: it goes by priv.f now, and table app.t needs it as it was: rename it back first",
      "alter type priv.f rename to e",
    ],
    [
      "when a sequence is in another schema",
      "alter sequence priv.s set schema public",
      "sequence priv.s: it goes by public.s now, and table app.t needs it as it was: rename it back first",
      "alter sequence public.s set schema priv",
    ],
  ])("%s", async ([, statements, bar, repair], { database }) => {
    await change(database, statements);
    expect(await bars(database)).toContain(bar);
    await database.sql.unsafe(repair).simple();
    expect(await bars(database)).toEqual([]);
    await rollBack(database.sql, "v1");
  });

  test("when a role that has privileges was dropped", async ({ database }) => {
    const role = `r${randomUUID().replaceAll("-", "")}`;
    const admin = database.connect(superuser);
    await admin.unsafe(`create role ${role}`);
    try {
      await change(database, "");
      await database.sql`drop schema migration_backup_v1 cascade`;
      await database.sql.unsafe(`grant select on app.t to ${role}`);
      await backUp(database.sql, "v1", { schema: "app", tables: "*" });
      await database.sql.unsafe(`revoke select on app.t from ${role}`);
      await admin.unsafe(`drop role ${role}`);
      expect(await bars(database)).toEqual([`role ${role}: it is gone, and table app.t needs it: make it again first`]);
      await admin.unsafe(`create role ${role}`);
      await rollBack(database.sql, "v1");
    } finally {
      await admin.unsafe(`drop owned by ${role}; drop role ${role}`).simple();
    }
  });
});

test("what only has arguments of a type that has another name bars nothing", async ({ database }) => {
  await change(database, "alter type app.mood rename to humor; alter table app.t rename m to h");
  expect(await bars(database)).toEqual([]);
  await rollBack(database.sql, "v1");
});

describe("what came from another schema is not dropped as if it were new:", () => {
  test.for<[string, string, string, string]>([
    ["a function", "function", "function app.f()", "create function priv.f() returns int language sql as 'select 1'"],
    ["a view", "view", "view app.f", "create view priv.f as select 1 as one"],
    ["a sequence", "sequence", "sequence app.f", "create sequence priv.f"],
    ["an enum", "type", "type app.f", "create type priv.f as enum ('x')"],
    ["a table", "table", "table app.f", "create table priv.f (id int primary key)"],
  ])("%s", async ([, kind, object, make], { database }) => {
    await database.sql.unsafe(`create schema priv; ${make}`).simple();
    await database.sql`create schema app`;
    await database.sql`create table app.t (id int primary key)`;
    await backUp(database.sql, "v1", { schema: "app", tables: "*" });
    await database.sql.unsafe(`alter ${kind} priv.f set schema app`);
    const bar =
      `${object}: it was in another schema when the backup was taken, which does not hold it, and would be dropped: move it back there first`;
    expect(await bars(database, { drop_new: "all" })).toEqual([bar]);
    await database.sql.unsafe(`alter ${kind} app.f set schema priv; alter table app.t add y int`).simple();
    await rollBack(database.sql, "v1", { drop_new: "all" });
    await database.sql.unsafe(`drop ${kind} priv.f`);
  });
});
