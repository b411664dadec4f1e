import { invalidMigration } from "./invalid-migration.ts";
import { LineFinder } from "./line-finder.ts";
import { MigrationReader } from "./migration-reader.ts";
import { parseStatements } from "./parse-statements.ts";
import { readStatement } from "./read-statement.ts";
import type { Touch, Warning } from "./touch.ts";

export type Migration = { touches: Touch[]; warnings: Warning[] };

/**
 * Reads the text of a migration with the grammar of Postgres: what each of its statements touches, and what cannot be
 * known of them. Names without a schema are looked for in `schema` first.
 *
 * @throws {Problem} `invalid_migration`, when it is no SQL that Postgres would take; `parser_failed`, when it cannot be known.
 *
 * @example
 * ```ts
 * await parseMigration("alter table public.a rename to b;");
 * // { touches: [{ line: 1, statement: "ALTER TABLE … RENAME", action: "rename", kind: "table", … }], warnings: [] }
 * ```
 */
export async function parseMigration(text: string, schema = "public"): Promise<Migration> {
  const lines = new LineFinder(text);
  const reader = new MigrationReader(schema);
  for (const { stmt, stmt_location = 0 } of await statementsOf(text, lines)) {
    reader.line = lines.ofStatement(stmt_location);
    if (stmt) readStatement(stmt, reader);
  }
  return reader.migration;
}

/** No operator has more than 63 characters, and no line that is drawn in a comment so many. */
const longestRun = 1000;

/** The parser reads a run of operator characters, of comments that begin in each other say, once more for each of them. */
function tooLongRun(text: string): RegExpExecArray | undefined {
  for (const run of text.matchAll(/[~!@#^&|`?+\-*/%<>=]+/g)) {
    if (run[0].length > longestRun && !run[0].startsWith("--")) return run;
  }
}

async function statementsOf(text: string, lines: LineFinder) {
  const nul = text.indexOf("\0");
  // The parser would take it for the end of the file, and pass over what comes behind it.
  if (nul >= 0) throw invalidMigration(lines.ofCharacter([...text.slice(0, nul)].length), "a NUL character");
  const run = tooLongRun(text);
  if (run) {
    const line = lines.ofCharacter([...text.slice(0, run.index)].length);
    throw invalidMigration(line, `more than ${longestRun} operator characters in a row`);
  }
  if (text.trim() === "") return [];
  const statements = await parseStatements(text, lines);
  if (statements.length === 0) {
    throw invalidMigration(
      null,
      "no statement is in it, but comments alone; curl joins the lines without --data-binary",
    );
  }
  return statements;
}
