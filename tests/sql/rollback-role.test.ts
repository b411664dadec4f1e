import { afterAll, beforeAll, expect, test } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp } from "../support/backup.ts";
import { createOwnServer, type OwnServer } from "../support/own-server.ts";
import { planRollback, rollBack, type RollbackOptions } from "../support/rollback.ts";

// What a role may set is the same for all databases of a server.
let server: OwnServer;
beforeAll(async () => {
  server = await createOwnServer();
});
afterAll(() => server.remove());

const restore: RollbackOptions = { data: "restore", drop_new: "all" };

test("a foreign key to rows that are put back stays where the role may set session_replication_role, and is made again where not", async () => {
  const [admin, sql] = [server.open(superuser), server.open()];
  await sql.unsafe(`
    create schema app;
    create table app.teams (id int primary key, name text);
    create table app.people (id int primary key, team int references app.teams on delete cascade);
    insert into app.teams select n, 'team ' || n from generate_series(1, 20) as n;
    insert into app.people select n, 1 + n % 20 from generate_series(1, 100) as n`).simple();
  await backUp(sql, "v1", { schema: "app", tables: "*" });
  const rows = async () =>
    [
      await sql`select * from app.teams order by id`,
      await sql`select * from app.people order by id`,
    ].map((found) => [...found]);
  const before = await rows();
  const dropsKey = async () =>
    (await planRollback(sql, "v1", restore)).statements.some(({ statement }) =>
      /^alter table .* drop constraint people_team_fkey/.test(statement)
    );

  await sql`delete from app.teams where id = 3`;
  expect(await dropsKey()).toBe(false);
  await rollBack(sql, "v1", restore);
  expect(await rows()).toEqual(before);

  await admin`revoke set on parameter session_replication_role from postgres`;
  await sql`delete from app.teams where id = 3`;
  expect(await dropsKey()).toBe(true);
  await rollBack(sql, "v1", restore);
  expect(await rows()).toEqual(before);
  expect(await sql`select convalidated from pg_constraint where conname = 'people_team_fkey'`).toEqual([
    { convalidated: true },
  ]);
});
