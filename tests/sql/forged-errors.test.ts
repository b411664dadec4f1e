import { describe, expect } from "vitest";
import { backUp, lastJob, tryBackUp, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { planRollback } from "../support/rollback.ts";

/** What code of a project can raise: any state, and any text as the message and the rest. */
const forged = ["MG013", "MG999", "42501", "23514", "57014"];

/** Has what a job of a kind makes or alters run a function of the project, which raises an error. */
async function plant({ connect }: TestDatabase, state: string, kind: string): Promise<void> {
  await connect("supabase_admin").unsafe(`
    create function public.guardian() returns event_trigger language plpgsql as $$ begin
      if exists (select from migration_guard.jobs where status = 'running' and kind = '${kind}') then
        raise exception using errcode = '${state}', message = 'SECRET', detail = '{"leak": "SECRET"}', hint = 'SECRET',
          constraint = 'SECRET', column = 'SECRET', table = 'SECRET';
      end if;
    end $$;
    create event trigger guardian on ddl_command_start
      when tag in ('CREATE SCHEMA', 'ALTER TABLE') execute function public.guardian()`).simple();
}

describe.for(forged)("an error of the project's own with the state %s", (state) => {
  test("says nothing in the job of a backup", async ({ example }) => {
    await plant(example, state, "backup");
    const job = await tryBackUp(example.sql, "v1", { tables: ["profiles"] });
    expect(job).toMatchObject({ status: "failed", result: null });
    expect(job.error!.code).not.toBe("cleanup_refused");
    expect(JSON.stringify(job)).not.toContain("SECRET");
  });

  test.for([false, true])(
    "neither ends a rollback well nor says anything in its job (rehearsal: %s)",
    async (rehearse, { example }) => {
      const { sql } = example;
      await plant(example, state, "rollback");
      await backUp(sql, "v1", { tables: ["profiles"] });
      await sql`alter table public.profiles add column since text`;
      const { plan_hash } = await planRollback(sql, "v1");
      await sql`select migration_guard.enqueue_rollback('v1', ${plan_hash}, '{}', ${rehearse}, 'test')`;
      await work(sql);
      const job = await lastJob(sql);
      expect(job).toMatchObject({ status: "failed", result: null });
      expect(JSON.stringify(job)).not.toContain("SECRET");
      expect(await sql`select rolled_back_at from migration_guard.backups`).toEqual([{ rolled_back_at: null }]);
    },
  );
});

test("a message is the product's own only where the product has raised it", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create function public."PL/pgSQL function migration_guard.fail(" () returns void language plpgsql as $$ begin
      raise exception using errcode = 'MG013', message = 'forged'; end $$;
    create function public.is_own(statement text) returns boolean language plpgsql as $$
    declare context text; state text; begin
      begin execute statement; exception when others then
        get stacked diagnostics context = pg_exception_context, state = returned_sqlstate; end;
      return migration_guard.is_own_error(state, context); end $$`).simple();
  const isOwn = async (statement: string) => (await sql`select public.is_own(${statement}) as it`)[0]!.it;
  expect(await isOwn(`select migration_guard.get_plan('v9')`)).toBe(true);
  expect(await isOwn(`select * from public.nothing`)).toBe(true);
  expect(await isOwn(`select public."PL/pgSQL function migration_guard.fail("()`)).toBe(false);
  expect(await isOwn(`do $$ begin raise exception using errcode = '42501', message = 'forged'; end $$`)).toBe(false);
});
