import type { SqlError } from "libpg-query";
import { invalidMigration } from "./invalid-migration.ts";
import { LineFinder } from "./line-finder.ts";
import { MigrationReader } from "./migration-reader.ts";
import { readStatement } from "./read-statement.ts";
import type { Touch, Warning } from "./touch.ts";

export type Migration = { touches: Touch[]; warnings: Warning[] };

/**
 * Reads the text of a migration with the grammar of Postgres: what each of its statements touches, and what cannot be
 * known of them. Names without a schema are looked for in `schema` first.
 *
 * @throws {Problem} `invalid_migration`, when it is no SQL that Postgres would take.
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
  return { touches: reader.touches, warnings: reader.warnings };
}

async function statementsOf(text: string, lines: LineFinder) {
  const nul = text.indexOf("\0");
  // The parser would take it for the end of the file, and pass over what comes behind it.
  if (nul >= 0) throw invalidMigration(lines.ofCharacter([...text.slice(0, nul)].length), "a NUL character");
  if (text.trim() === "") return [];
  // Loaded when it is first wanted: it is a megabyte and a half that no other route has a use for.
  const { parse } = await import("libpg-query");
  try {
    return (await parse(text)).stmts ?? [];
  } catch (error) {
    const { message, sqlDetails } = error as SqlError;
    if (sqlDetails) throw invalidMigration(lines.ofCharacter(sqlDetails.cursorPosition), message);
    // The parser has run out of stack or memory, and knows no line.
    if (error instanceof RangeError || error instanceof WebAssembly.RuntimeError) {
      throw invalidMigration(null, "an expression is nested too deeply to be read");
    }
    throw error;
  }
}
