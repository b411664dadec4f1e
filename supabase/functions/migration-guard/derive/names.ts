import type { FunctionParameter, Node, ObjectWithArgs, RangeVar, TypeName as TypeNode } from "libpg-query";
import type { Name, Scope } from "./scope.ts";
import type { TypeName } from "./touch.ts";

/** The strings of a list of nodes. */
export const strings = (nodes: Node[] = []): string[] =>
  nodes.flatMap((node) => "String" in node ? [node.String.sval ?? ""] : []);

/** `name`, `schema.name` or `database.schema.name`. */
export function nameOf(parts: string[]): Name {
  const [name = "", schema] = parts.toReversed();
  return schema === undefined ? { name } : { schema, name };
}

export const nameOfRelation = ({ schemaname, relname, relpersistence }: RangeVar): Name => {
  const schema = relpersistence === "t" ? "pg_temp" : schemaname;
  return schema === undefined ? { name: relname ?? "" } : { schema, name: relname ?? "" };
};

/** A type of a signature; a type that the file has renamed goes by its old name. */
export function typeOf(node: TypeNode, scope: Scope): TypeName {
  const { schema, search_path, name } = scope.resolve("type", nameOf(strings(node.names)));
  return {
    ...(schema === undefined ? { search_path } : { schema }),
    name,
    ...(node.arrayBounds?.length ? { array: true as const } : {}),
  };
}

const isInput = ({ mode }: FunctionParameter) => mode !== "FUNC_PARAM_OUT" && mode !== "FUNC_PARAM_TABLE";

/** Input types of a function's parameters; undefined where one is `%type`, which only the catalog knows. */
export function signatureOf(parameters: Node[] = [], scope: Scope): TypeName[] | undefined {
  const types = parameters.flatMap((node) =>
    "FunctionParameter" in node && isInput(node.FunctionParameter) && node.FunctionParameter.argType
      ? [node.FunctionParameter.argType]
      : []
  );
  return types.some((type) => type.pct_type) ? undefined : types.map((type) => typeOf(type, scope));
}

/** Argument types that a statement gives for a routine; undefined where it gives none, which stands for any. */
export function argumentsOf({ args_unspecified, objargs = [] }: ObjectWithArgs, scope: Scope): TypeName[] | undefined {
  const types = objargs.flatMap((node) => "TypeName" in node ? [node.TypeName] : []);
  // An aggregate's `*` is an empty node.
  return args_unspecified || types.some((type) => type.pct_type) ? undefined : types.map((type) => typeOf(type, scope));
}

/** Tables that a definition refers to: a parent, a partition, the target of a foreign key, also one of a new column. */
export function relationsIn(node: Node | undefined): RangeVar[] {
  if (!node) return [];
  if ("RangeVar" in node) return [node.RangeVar];
  if ("PartitionCmd" in node) return node.PartitionCmd.name ? [node.PartitionCmd.name] : [];
  if ("Constraint" in node) return node.Constraint.pktable ? [node.Constraint.pktable] : [];
  if ("TableLikeClause" in node) return node.TableLikeClause.relation ? [node.TableLikeClause.relation] : [];
  return "ColumnDef" in node ? (node.ColumnDef.constraints ?? []).flatMap(relationsIn) : [];
}
