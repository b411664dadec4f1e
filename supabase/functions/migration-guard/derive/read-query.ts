import type { FuncCall, Node } from "libpg-query";
import type { MigrationReader } from "./migration-reader.ts";
import { nameOf, strings } from "./names.ts";

/**
 * Reads what a statement does when it is executed: rows that it or a `with` clause changes, and functions that it calls.
 * It goes through the tree with a list instead of recursion: an expression may be nested deeper than the stack.
 */
export function readQuery(statement: string, tree: unknown, reader: MigrationReader): void {
  const open = [tree];
  while (open.length > 0) {
    const node = open.pop();
    if (typeof node !== "object" || node === null) continue;
    readNode(statement, node as Node, reader);
    for (const child of Object.values(node)) if (typeof child === "object") open.push(child);
  }
}

function readNode(statement: string, node: Node, reader: MigrationReader): void {
  if ("InsertStmt" in node) {
    const updates = node.InsertStmt.onConflictClause?.action === "ONCONFLICT_UPDATE";
    reader.relation(updates ? "INSERT … ON CONFLICT DO UPDATE" : "INSERT", "data", "table", node.InsertStmt.relation!);
  } else if ("UpdateStmt" in node) reader.relation("UPDATE", "data", "table", node.UpdateStmt.relation!);
  else if ("DeleteStmt" in node) reader.relation("DELETE", "data", "table", node.DeleteStmt.relation!);
  else if ("MergeStmt" in node) reader.relation("MERGE", "data", "table", node.MergeStmt.relation!);
  else if ("FuncCall" in node) readCall(statement, node.FuncCall, reader);
}

function readCall(statement: string, { funcname, args = [] }: FuncCall, reader: MigrationReader): void {
  const name = nameOf(strings(funcname));
  const isBuiltIn = name.schema === undefined || name.schema === "pg_catalog";
  if (name.schema === "migration_guard" && name.name === "assert_ready") return;
  if (isBuiltIn && name.name === "set_config") {
    const setting = constant(args[0]);
    if (setting === undefined || setting.toLowerCase() === "search_path") {
      reader.warn(
        "search_path_unknown",
        statement,
        "set_config may change the search_path: the names without a schema after it are looked up as before it. Use `set`.",
      );
    }
    return;
  }
  if (isBuiltIn && (name.name === "setval" || name.name === "nextval")) {
    const relation = nameInText(constant(args[0]));
    const owner = nameInText(constant(serialArguments(args[0])?.[0]));
    if (relation) reader.relation(name.name.toUpperCase(), "data", "sequence", relation);
    else if (owner) reader.relation(name.name.toUpperCase(), "data", "table", owner);
    if (relation || owner) return;
  }
  reader.call(statement, name);
}

/** The arguments of `pg_get_serial_sequence('table', 'column')`. */
function serialArguments(node: Node | undefined): Node[] | undefined {
  if (!node || !("FuncCall" in node)) return undefined;
  return nameOf(strings(node.FuncCall.funcname)).name === "pg_get_serial_sequence" ? node.FuncCall.args : undefined;
}

/** A string that stands in the statement, also with a cast. */
function constant(node: Node | undefined): string | undefined {
  if (!node) return undefined;
  if ("TypeCast" in node) return constant(node.TypeCast.arg);
  return "A_Const" in node ? node.A_Const.sval?.sval : undefined;
}

/** `schema.name` as a text says it, quoted or not. */
function nameInText(text: string | undefined) {
  const parts = text?.match(/^\s*(?:("(?:[^"]|"")+"|[^\s".()]+)\.)?("(?:[^"]|"")+"|[^\s".()]+)\s*$/)?.slice(1);
  if (!parts) return undefined;
  const names = parts.filter((item) => item !== undefined)
    .map((item) => item.startsWith('"') ? item.slice(1, -1).replaceAll('""', '"') : item.toLowerCase());
  return nameOf(names);
}
