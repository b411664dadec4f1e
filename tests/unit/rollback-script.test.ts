import { parse } from "libpg-query";
import { expect, test } from "vitest";
import { rollbackScript } from "../../supabase/functions/migration-guard/rollback-script.ts";

const step = {
  step: 1,
  object: "table public.curator_notes",
  reason: "renamed",
  statement: "alter table public.curator_notes rename to coordinator_notes",
  effect: "rename",
  lock: "ACCESS EXCLUSIVE",
  on: "public.curator_notes",
  estimated_rows: 1900,
};
const plan = {
  version: "v10.0",
  plan_hash: "ab".repeat(32),
  possible: true,
  statements: [step],
  cannot_undo: [],
};

/** The kinds of statements, besides `set`, that Postgres's own grammar finds in a text. */
async function kinds(text: string): Promise<string[]> {
  const { stmts = [] } = await parse(text);
  return stmts.map(({ stmt }: { stmt?: object }) => Object.keys(stmt!)[0]!).filter((kind) =>
    kind !== "VariableSetStmt"
  );
}

const around = (...inner: string[]) => ["TransactionStmt", ...inner, "NotifyStmt", "TransactionStmt"];

test("a script runs the statements in one transaction, and says what each is for and costs", async () => {
  const script = rollbackScript(plan);
  expect(await kinds(script)).toEqual(around("RenameStmt"));
  expect(script).toContain(
    "-- 1. table public.curator_notes: renamed (rename, ACCESS EXCLUSIVE on public.curator_notes, about 1900 rows)\n" +
      "alter table public.curator_notes rename to coordinator_notes;\n",
  );
});

test("a statement that ends in a semicolon, or in a line of its own, ends once", async () => {
  const view = {
    ...step,
    statement: "create view public.v as\n select 1;\n",
    lock: null,
    on: null,
    estimated_rows: null,
  };
  const script = rollbackScript({ ...plan, statements: [view] });
  expect(await kinds(script)).toEqual(around("ViewStmt"));
  expect(script).toContain(" select 1;\n\nnotify");
});

test.for(["\n", "\r", "\r\n"])("a name with %j in it cannot leave its comment", async (newline) => {
  const evil = `table public."a${newline}drop table public.profiles; --"`;
  const statements = [{ ...step, object: evil, reason: evil, on: evil }];
  const cannot_undo = [{ object: evil, why: evil, blocks: false }];
  expect(await kinds(rollbackScript({ ...plan, statements, cannot_undo }))).toEqual(around("RenameStmt"));
});

test("the script of a plan that is refused is all comments, and says why", async () => {
  const statements = [{ ...step, statement: "create view public.v as\r\nselect 1;\rdrop table public.profiles" }];
  const cannot_undo = [{ object: "type public.user_role", why: "3 rows use the value coach", blocks: true }];
  const script = rollbackScript({ ...plan, possible: false, statements, cannot_undo });
  expect(await kinds(script)).toEqual([]);
  expect(script).toContain("-- Bars the way: type public.user_role: 3 rows use the value coach\n");
  expect(script).toContain("-- create view public.v as\n-- select 1;\n-- drop table public.profiles;\n");
});

test.for<[string, number | null, string]>([
  ["rewrite", 1900, "(rewrite, about 1900 rows)"],
  ["rewrite", null, "(rewrite, number of rows unknown)"],
  ["rewrite", 0, "(rewrite)"],
  ["rename", null, "(rename)"],
])("a %s of %s rows is told as such", ([effect, estimated_rows, costs]) => {
  const statements = [{ ...step, effect, estimated_rows, lock: null, on: null }];
  expect(rollbackScript({ ...plan, statements })).toContain(costs);
});
