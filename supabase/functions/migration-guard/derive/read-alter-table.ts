import type { AlterTableCmd, AlterTableStmt, Constraint, RangeVar } from "libpg-query";
import type { MigrationReader } from "./migration-reader.ts";
import { nameOf, nameOfRelation, relationsIn, strings } from "./names.ts";
import { objectKinds } from "./object-kinds.ts";
import { readQuery } from "./read-query.ts";

/** Reads each part of an `alter table`, or of an `alter` of another relation. */
export function readAlterTable(
  { relation, cmds = [], objtype, missing_ok }: AlterTableStmt,
  reader: MigrationReader,
): void {
  const { kind, form } = objectKinds[objtype!];
  for (const node of cmds) {
    if (!("AlterTableCmd" in node)) continue;
    const command = node.AlterTableCmd;
    const statement = `ALTER ${kind.replaceAll("_", " ").toUpperCase()} … ${wordsOf(command)}`;
    const optional = missing_ok || command.missing_ok;
    const context = { statement, relation: relation!, kind, optional, reader };
    if (form === "type") readAttribute(context, command);
    else readCommand(context, command);
    // A new default, a conversion and a new check are computed for each row.
    readQuery(statement, command.def, reader);
  }
}

type Context = { statement: string; relation: RangeVar; kind: string; optional?: boolean; reader: MigrationReader };

/** AT_AlterColumnType reads ALTER COLUMN TYPE. */
const wordsOf = ({ subtype }: AlterTableCmd) =>
  (subtype ?? "").replace(/^AT_/, "").replace(/(?<=[a-z])(?=[A-Z])/g, " ").toUpperCase();

function readAttribute({ statement, relation, optional, reader }: Context, command: AlterTableCmd): void {
  const column = columnOf(command);
  const action = command.subtype === "AT_AddColumn" ? "create" : command.subtype === "AT_DropColumn" ? "drop" : "alter";
  const cascade = command.behavior === "DROP_CASCADE";
  if (column === undefined) reader.type(statement, "alter", "type", nameOfRelation(relation), { optional });
  else {
    reader.memberOfType(statement, action, "attribute", nameOfRelation(relation), column, { cascade, optional });
  }
}

function readCommand({ statement, relation, kind, optional, reader }: Context, command: AlterTableCmd): void {
  const cascade = command.behavior === "DROP_CASCADE";
  const member = memberOf(command);
  if (member?.name !== undefined) {
    reader.member(statement, member.action, member.kind, relation, member.name, { cascade, optional });
  } else reader.relation(statement, "alter", kind, relation, { optional });

  for (const other of relationsIn(command.def)) reader.relation(statement, "alter", "table", other);
  const index = indexIn(command);
  if (index !== undefined) reader.relation(statement, "alter", "index", siblingOf(relation, index));
  if (command.subtype === "AT_AddOf" && command.def && "TypeName" in command.def) {
    reader.type(statement, "alter", "type", nameOf(strings(command.def.TypeName.names)));
  }
}

/** An index is in the schema of its table. */
const siblingOf = ({ schemaname }: RangeVar, name: string) =>
  schemaname === undefined ? { name } : { schema: schemaname, name };

/** The column, constraint, trigger or rule that a command is about. */
function memberOf(
  command: AlterTableCmd,
): { kind: string; action: "create" | "alter" | "drop"; name?: string } | undefined {
  const subtype = command.subtype ?? "";
  if (/^AT_(Enable|Disable)(Always|Replica)?Trig$/.test(subtype)) {
    return { kind: "trigger", action: "alter", name: command.name };
  }
  if (/^AT_(Enable|Disable)(Always|Replica)?Rule$/.test(subtype)) {
    return { kind: "rule", action: "alter", name: command.name };
  }
  if (subtype === "AT_AddConstraint") {
    return { kind: "constraint", action: "create", name: constraintIn(command)?.conname };
  }
  if (subtype === "AT_DropConstraint") return { kind: "constraint", action: "drop", name: command.name };
  if (subtype === "AT_ValidateConstraint") return { kind: "constraint", action: "alter", name: command.name };
  if (subtype === "AT_AlterConstraint") {
    return { kind: "constraint", action: "alter", name: constraintIn(command)?.conname };
  }
  if (subtype === "AT_AddColumn") return { kind: "column", action: "create", name: columnOf(command) };
  if (subtype === "AT_DropColumn") return { kind: "column", action: "drop", name: command.name };
  return columnCommands.has(subtype) ? { kind: "column", action: "alter", name: command.name } : undefined;
}

const columnCommands = new Set([
  "AT_ColumnDefault",
  "AT_DropNotNull",
  "AT_SetNotNull",
  "AT_SetExpression",
  "AT_DropExpression",
  "AT_SetStatistics",
  "AT_SetOptions",
  "AT_ResetOptions",
  "AT_SetStorage",
  "AT_SetCompression",
  "AT_AlterColumnType",
  "AT_AlterColumnGenericOptions",
  "AT_AddIdentity",
  "AT_SetIdentity",
  "AT_DropIdentity",
]);

const columnOf = ({ def, name }: AlterTableCmd) => def && "ColumnDef" in def ? def.ColumnDef.colname ?? name : name;

function constraintIn({ def }: AlterTableCmd): Constraint | undefined {
  if (!def) return undefined;
  // 18 has a node of its own for `alter constraint`.
  if ("ATAlterConstraint" in def) return def.ATAlterConstraint as Constraint;
  return "Constraint" in def ? def.Constraint : undefined;
}

function indexIn({ subtype, name, def }: AlterTableCmd): string | undefined {
  if (subtype === "AT_ClusterOn") return name;
  if (!def) return undefined;
  if ("ReplicaIdentityStmt" in def) return def.ReplicaIdentityStmt.name;
  return "Constraint" in def ? def.Constraint.indexname : undefined;
}
