import { expect } from "vitest";
import { backUp } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { planRollback } from "../support/rollback.ts";

test("how many rows a statement has to do with is unknown until its table is analyzed", async ({ database: { sql } }) => {
  await sql.unsafe("create table public.t (n int) with (autovacuum_enabled = off)");
  await backUp(sql, "v1", { tables: ["t"] });
  await sql.unsafe("insert into public.t values (1), (2); alter table public.t alter n type bigint").simple();
  const rows = async () =>
    (await planRollback(sql, "v1")).statements.filter(({ effect }) => effect === "rewrite")
      .map(({ on, estimated_rows }) => [on, estimated_rows]);
  expect(await rows()).toEqual([["public.t", null]]);
  await sql`analyze public.t`;
  expect(await rows()).toEqual([["public.t", 2]]);
  await sql`delete from public.t`;
  await sql`vacuum analyze public.t`;
  expect(await rows()).toEqual([["public.t", 0]]);
});
