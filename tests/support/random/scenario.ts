import fc from "fast-check";
import { vocabulary } from "./vocabulary.ts";

/** A statement before anybody knows what is there: its kind, and the numbers that its choices are made with. */
export type Choice = { kind: string; numbers: number[] };

/** A schema with its rows, what becomes of it, and how it is to be led back. */
export type Scenario = {
  schema: Choice[];
  changes: Choice[];
  data: "restore" | "keep";
  dropNew: "all" | "default";
};

const number = fc.nat(59);
const numbers = fc.array(number, { minLength: 8, maxLength: 8 });
// The first is what shrinking tries instead of any other.
const choiceOf = (kinds: string[]) => fc.record({ kind: fc.constantFrom("nothing", ...kinds), numbers });
const some = (kinds: string[], minLength: number, maxLength: number) =>
  fc.noBias(fc.array(choiceOf(kinds), { minLength, maxLength, size: "max" }));

const parts = [
  ...["add_column", "add_generated_column", "add_identity_column", "add_key", "add_check", "add_foreign_key"],
  ...["add_foreign_key", "add_foreign_key", "create_index", "create_index", "create_unique_index", "set_default"],
  ...["create_view", "create_view", "create_view", "create_materialized_view", "create_function", "create_function"],
  ...["create_table_function", "create_row_function", "create_typed_function", "create_policy", "create_policy"],
  ...["create_trigger", "create_trigger", "switch_row_security", "set_replica_identity", "own_sequence"],
  ...["grant", "grant", "grant_columns", "comment", "comment", "change_owner", "publish", "default_privileges"],
  ...["switch_trigger", "drop_column", "add_exclusion", "create_procedure", "set_table_options"],
];

/** Types and functions first, then tables of them, then what is made of tables, then rows. */
const schema = fc.tuple(
  some(["create_enum", "create_enum", "create_domain", "create_composite", "create_sequence"], 2, 5),
  some(["create_function", "create_trigger_function"], 2, 3),
  some(["create_table", "create_table", "create_table", "create_table", "create_partitioned_table"], 2, 5),
  some(parts, 8, 18),
  some(["insert", "insert", "insert", "advance_sequence"], 4, 9),
).map((stages) => stages.flat());

/** Each kind of change as often as any other, but for writes, which there are more of. */
const changes = some(
  [...Object.keys(vocabulary), ...Array(6).fill("insert"), ...Array(4).fill("update"), "delete"],
  1,
  12,
);

/** Draws a scenario; shrinking one drops statements. */
export const scenario: fc.Arbitrary<Scenario> = fc.record({
  schema,
  changes,
  data: fc.constantFrom("restore", "restore", "restore", "keep"),
  dropNew: fc.constantFrom("all", "all", "default"),
});
