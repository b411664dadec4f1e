import { expect } from "vitest";
import { backUp, work } from "../support/backup.ts";
import { test } from "../support/database.ts";

test("one chunk at a time is begun, when an export has many more than the planner knows", async ({ database: { sql } }) => {
  await sql`create table public.t (id int)`;
  await backUp(sql, "v10", { tables: ["t"] });
  const [job] = await sql<{ id: string; export: string }[]>`
    select id, parameters ->> 'export' as export from migration_guard.enqueue_export('v10')`;
  // What the planner knows is of another export.
  await sql`
    insert into migration_guard.exports (id, backup_id, version, target, actor)
    select 'v10.0-20260101T000000Z-00000000', backup_id, version, target, actor from migration_guard.exports`;
  const addChunks = (id: string, first: number) =>
    sql`
    insert into migration_guard.export_chunks (export_id, number, table_name, relation, filenode, first_row, estimated_bytes)
    select ${id}, n, 't', 1, 1, '(0,0)', 1 from generate_series(${first}::int, ${first + 2000}) as n`;
  await addChunks("v10.0-20260101T000000Z-00000000", 0);
  await sql`analyze migration_guard.export_chunks`;
  await work(sql);
  await addChunks(job!.export, 1000);
  await sql`select migration_guard.take_transfers()`;
  const wanted = await sql<{ number: number }[]>`
    select number from migration_guard.export_chunks where export_id = ${job!.export} order by number limit 7`;
  for (const { number } of wanted) {
    expect(await sql`select step, number, attempt from migration_guard.next_export_step(${job!.id})`).toEqual([
      { step: "chunk", number, attempt: 1 },
    ]);
  }
  expect(await sql`select sum(attempts)::int as begun from migration_guard.export_chunks`).toEqual([{ begun: 7 }]);
});
