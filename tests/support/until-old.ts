import type postgres from "postgres";

/**
 * Waits until no transaction is open that is older than the rows of a table: without that none of them is surely older than a
 * backup, whatever else runs on the server.
 */
export async function untilOld(sql: postgres.Sql, table: string): Promise<void> {
  for (;;) {
    const [{ old }] = await sql.unsafe<[{ old: boolean }]>(`
      select not exists (select from ${table} where age(xmin) <= age(pg_snapshot_xmin(pg_current_snapshot())::xid)) as old`);
    if (old) return;
    await sql`select pg_sleep(0.05)`;
  }
}
