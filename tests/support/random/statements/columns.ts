import type { Draw } from "../draw.ts";
import type { Make } from "../make.ts";
import type { Column, State, Table } from "../read-state.ts";
import { typeOf } from "../type-of.ts";
import { valueOf } from "../value-of.ts";

type TableColumn = { table: Table; column: Column };

const all = (state: State): TableColumn[] =>
  state.tables.flatMap((table) => table.columns.map((column) => ({ table, column })));

const anyOf = (state: State, draw: Draw, is: (column: Column) => boolean = () => true) =>
  draw.of(all(state).filter(({ column }) => is(column)));

const alter = ({ table, column }: TableColumn, action: string) =>
  `alter table ${table.id} alter column ${column.id} ${action}`;

/** What a column of a type may be filled with by itself. */
function defaultOf(state: State, draw: Draw, type: string): string {
  const functions = state.functions.filter(({ call, returns }) => call && returns === type);
  return draw.of([
    ...[valueOf(state, type, draw.number() % 10), valueOf(state, type, draw.number() % 10)],
    ...functions.map(({ call }) => call!.replace("%", "2")),
    ...(/int/.test(type)
      ? state.sequences.filter((s) => !s.is_internal).map(({ id }) => `nextval('${id.replaceAll("'", "''")}')`)
      : []),
    ...(/^time/.test(type) ? ["now()"] : []),
    ...(type === "text" ? ["current_user", "lower('A' || 'b')"] : []),
  ]);
}

const number = (draw: Draw) => draw.number() % 10;

/** Columns of tables. */
export const columns: Record<string, Make> = {
  add_column: (state, draw) => {
    const type = typeOf(state, draw);
    const { id } = draw.of(state.tables);
    return `alter table ${id} add column ${draw.name()} ${type} ${
      draw.of([
        "",
        "",
        `default ${defaultOf(state, draw, type)}`,
        `not null default ${defaultOf(state, draw, type)}`,
        "unique",
      ])
    }`;
  },
  add_generated_column: (state, draw) => {
    const { table, column } = anyOf(state, draw, ({ type }) => /int|text|numeric/.test(type));
    return `alter table ${table.id} add column ${draw.name()} ${
      column.type.includes("text")
        ? `text generated always as (coalesce(${column.id}::text, 'none')) stored`
        : `bigint generated always as (${column.id} * 2) stored`
    }`;
  },
  add_identity_column: (state, draw) =>
    `alter table ${draw.of(state.tables).id} add column ${draw.name()} ${draw.of(["int", "bigint"])} generated ${
      draw.of(["always", "by default"])
    } as identity ${draw.of(["", "(start 50)", "(increment 3 cache 5)"])}`,
  drop_column: (state, draw) => {
    const { table, column } = anyOf(state, draw);
    return `alter table ${table.id} drop column ${column.id} ${draw.maybe("cascade")}`;
  },
  rename_column: (state, draw) => {
    const { table, column } = anyOf(state, draw);
    return `alter table ${table.id} rename column ${column.id} to ${draw.name()}`;
  },
  swap_columns: (state, draw) => {
    const table = draw.of(state.tables.filter((t) => t.columns.length > 1));
    const [one, other] = draw.some(table.columns, 1).flatMap((
      a,
    ) => [a, draw.of(table.columns.filter((b) => b.id !== a.id))]);
    return `alter table ${table.id} rename column ${one!.id} to swapped;
      alter table ${table.id} rename column ${other!.id} to ${one!.id};
      alter table ${table.id} rename column swapped to ${other!.id}`;
  },
  retype_column: (state, draw) => {
    const found = anyOf(state, draw);
    const { id, type } = found.column;
    const enums = state.enums.map((e) => e.id);
    const first = (name: string) => state.enums.find((e) => e.id === name)!.values[0] ?? "null";
    if (enums.includes(type)) return alter(found, `type text using ${id}::text`);
    if (type === "integer" || type === "smallint") {
      return alter(found, `type ${draw.of(["bigint", "text", "numeric(10,1)"])}`);
    }
    if (type === "bigint") return alter(found, `type ${draw.of(["integer", "text"])}`);
    if (type === "text") {
      const target = draw.of(["character varying(60)", "integer", ...enums]);
      if (target === "character varying(60)") return alter(found, `type ${target}`);
      if (target === "integer") return alter(found, `type integer using length(${id})`);
      return alter(found, `type ${target} using ${first(target)}::${target}`);
    }
    return alter(found, `type ${draw.of(["text", "jsonb"])} using ${draw.of([`${id}::text`, `to_jsonb(${id})`])}`);
  },
  set_default: (state, draw) => {
    const found = anyOf(state, draw, (c) => !c.is_identity && !c.is_generated);
    return alter(found, `set default ${defaultOf(state, draw, found.column.type)}`);
  },
  drop_default: (state, draw) => alter(anyOf(state, draw, (c) => c.has_default), "drop default"),
  set_not_null: (state, draw) => {
    const found = anyOf(state, draw, (c) => !c.is_not_null && !c.is_generated);
    const { table, column } = found;
    return `update ${table.id} set ${column.id} = ${
      valueOf(state, column.type, number(draw))
    } where ${column.id} is null;
      ${alter(found, "set not null")}`;
  },
  drop_not_null: (state, draw) => alter(anyOf(state, draw, (c) => c.is_not_null), "drop not null"),
  add_identity: (state, draw) => {
    const found = anyOf(state, draw, (c) => /int/.test(c.type) && c.is_not_null && !c.is_identity && !c.has_default);
    return alter(found, `add generated ${draw.of(["always", "by default"])} as identity`);
  },
  drop_identity: (state, draw) => alter(anyOf(state, draw, (c) => c.is_identity), "drop identity"),
  change_identity: (state, draw) =>
    alter(
      anyOf(state, draw, (c) => c.is_identity),
      draw.of(["set generated always", "set generated by default", "set increment by 7", "restart with 500"]),
    ),
  drop_expression: (state, draw) => alter(anyOf(state, draw, (c) => c.is_generated), "drop expression"),
  set_column_options: (state, draw) =>
    alter(
      anyOf(state, draw),
      draw.of([
        "set statistics 200",
        "set statistics -1",
        "set storage external",
        "set storage plain",
        "set (n_distinct = 5)",
      ]),
    ),
};
