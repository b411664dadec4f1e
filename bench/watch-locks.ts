import type postgres from "postgres";

/** Modes of locks on tables, each stronger than the one before. */
const modes = [
  ...["AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock"],
  ...["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"],
];

export type SeenLocks = { samples: number; strongest: string | undefined };

export type LockWatch = {
  /** Ends the watch, and tells how often a lock was seen, and the strongest. */
  stop: () => Promise<SeenLocks>;
};

/** What two watches have seen together. */
export function strongestOf(one: SeenLocks, other: SeenLocks): SeenLocks {
  const strongest = Math.max(...[one, other].map((seen) => modes.indexOf(seen.strongest ?? "")));
  return { samples: one.samples + other.samples, strongest: modes[strongest] };
}

/**
 * Looks every 20 ms at the locks that sessions and their parallel workers hold on tables of the example's plan, or wait for. It is
 * one statement until it is stopped, with a transaction for each look: a backup takes who runs one after the other for somebody
 * at work, and vacuum waits for who has a snapshot.
 *
 * @param sql A superuser's connection, for nothing else.
 */
export function watchLocks(sql: postgres.Sql, pids: number[], tables: string[]): LockWatch {
  let query: postgres.PendingQuery<[{ samples: number; seen: string[] }]> | undefined;
  const watching = (async () => {
    await sql.unsafe(`
      create or replace procedure pg_temp.watch_locks(pids int[], tables text[], inout samples int, inout seen text[]) language plpgsql as $$
      declare
        held text[];
        is_over boolean := false;
      begin
        loop
          begin
            perform pg_stat_clear_snapshot();
            held := array(
              select distinct l.mode
              from pg_locks as l
              join pg_stat_activity as a on a.pid = l.pid
              where l.locktype = 'relation' and l.relation in (select t::regclass from unnest(tables) as t)
                and coalesce(a.leader_pid, a.pid) = any (pids));
            samples := samples + (cardinality(held) > 0)::int;
            seen := array(select m from unnest(seen) as m union select m from unnest(held) as m);
            perform pg_sleep(0.02);
          exception when query_canceled then
            is_over := true;
          end;
          commit;
          exit when is_over;
        end loop;
      end
      $$`);
    query = sql`call pg_temp.watch_locks(${pids}::int[], ${tables}::text[], 0, '{}')`;
    const [{ samples, seen }] = await query;
    return { samples, strongest: modes[Math.max(...seen.map((mode) => modes.indexOf(mode)))] };
  })();
  // It is told to whoever stops it.
  watching.catch(() => undefined);
  return {
    stop: () => {
      query?.cancel();
      return watching;
    },
  };
}
