import { setTimeout as sleep } from "node:timers/promises";
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
 * Looks every 20 ms at the locks that sessions and their parallel workers hold on tables of the example's plan, or wait for.
 *
 * @param sql A superuser's connection, for nothing else.
 */
export function watchLocks(sql: postgres.Sql, pids: number[], tables: string[]): LockWatch {
  let samples = 0;
  let strongest = -1;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      const held = await sql<{ mode: string }[]>`
        select distinct l.mode
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'relation' and l.relation in (select t::regclass from unnest(${tables}::text[]) as t)
          and coalesce(a.leader_pid, a.pid) = any (${pids}::int[])`;
      if (held.length > 0) samples++;
      strongest = Math.max(strongest, ...held.map(({ mode }) => modes.indexOf(mode)));
      await sleep(20);
    }
  })();
  // It is told to whoever stops it.
  watching.catch(() => undefined);
  return {
    stop: async () => {
      isOver = true;
      await watching;
      return { samples, strongest: modes[strongest] };
    },
  };
}
