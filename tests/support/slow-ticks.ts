import type postgres from "postgres";

/**
 * Has some ticks of a job wait a little first, so that reading a large table takes a while: however fast the machine is, there
 * is something to be seen, or to be cancelled, meanwhile.
 */
export const slowTicks = (sql: postgres.Sql, { seconds = 0.01 } = {}) =>
  sql.unsafe(`
    alter function migration_guard.tick(oid, tid) rename to tick_now;
    create function migration_guard.tick(table_id oid, place tid) returns boolean language plpgsql as $$
    begin
      if hashtid(place) & 1920 = 0 then
        perform pg_sleep(${seconds});
      end if;
      return migration_guard.tick_now(table_id, place);
    end $$;
  `).simple();
