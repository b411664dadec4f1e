import type postgres from "postgres";

export type Writer = {
  /** Writes until something is over, and gives the milliseconds that each statement took. */
  writeUntil: (over: Promise<unknown>) => Promise<number[]>;
};

/** A session that updates single profiles and adds single uses of invite codes, by turns and without a pause. */
export async function startWriter(sql: postgres.Sql): Promise<Writer> {
  const ids = async (table: string) => {
    const chosen = await sql<{ id: string }[]>`
      select id from ${sql(table)} order by hashtextextended(id::text, 1) limit 10000`;
    return chosen.map(({ id }) => id);
  };
  const [profiles, codes] = [await ids("public.profiles"), await ids("public.invite_codes")];
  const any = (of: string[]) => of[Math.floor(Math.random() * of.length)]!;
  let turn = 0;
  const write = async () => {
    if (turn++ % 2 === 0) {
      await sql`update public.profiles set height_cm = ${150 + turn % 50} where id = ${any(profiles)}`;
    } else {
      await sql`
        insert into public.invite_code_usage (invite_code_id, used_by) values (${any(codes)}, ${any(profiles)})
        on conflict do nothing`;
    }
  };
  // The first ones are planned anew each time.
  for (let first = 0; first < 50; first++) await write();
  return {
    writeUntil: async (over) => {
      let isOver = false;
      over.finally(() => isOver = true).catch(() => undefined);
      const times = [];
      while (!isOver) {
        const begun = performance.now();
        await write();
        times.push(performance.now() - begun);
      }
      await over;
      return times;
    },
  };
}
