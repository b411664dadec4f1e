// What the function does with a chunk, in Deno, thirty times: prints how often it ended, and by how much its memory grew.
import assert from "node:assert";
import process from "node:process";
import postgres from "postgres";
import { copyIn } from "../../supabase/functions/migration-guard/exports/copy-in.ts";
import { copyOut } from "../../supabase/functions/migration-guard/exports/copy-out.ts";
import { seal } from "../../supabase/functions/migration-guard/exports/seal.ts";

let copies = 0;
let before = 0;
for (let i = 0; i < 30; i++) {
  const sql = postgres(process.argv[2]!, { max: 1, prepare: false, fetch_types: false });
  const statement = `copy (select i, repeat('x', 200) from generate_series(1, ${19_990 + i}) as i) to stdout`;
  const { blocks } = await copyOut(sql, statement, { maxBytes: 8_000_000 });
  await seal(blocks);
  const endless = "copy (select generate_series(1, 1000000000), repeat('x', 200)) to stdout";
  await assert.rejects(copyOut(sql, endless, { maxBytes: 8_000_000 }), { code: "copy_too_large" });
  await assert.rejects(copyIn(sql, "copy missing from stdin", blocks), { code: "42P01" });
  await sql`create temporary table copied (i int, x text)`;
  assert.equal(await copyIn(sql, "copy copied from stdin", blocks), 19_990 + i);
  await assert.rejects(copyIn(sql, "copy copied (x, i) from stdin", blocks), { code: "22P02" });
  await sql`select 1`;
  await sql.end();
  copies++;
  if (i === 4) before = process.memoryUsage().rss;
}
console.log(JSON.stringify({ copies, megabytes: (process.memoryUsage().rss - before) / 1e6 }));
