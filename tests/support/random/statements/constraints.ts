import type { Make } from "../make.ts";
import type { Draw } from "../draw.ts";
import type { State, Table } from "../read-state.ts";
import { valueOf } from "../value-of.ts";

const columnIds = (table: Table) => table.columns.map(({ id }) => id);

/** A condition on one column, which most rows meet. */
function condition(state: State, draw: Draw, table: Table): string {
  const { id, type } = draw.of(table.columns);
  const functions = state.functions.filter(({ call, returns }) => call?.includes("%") && returns === "integer");
  if (/int|numeric/.test(type)) {
    return draw.of([
      `${id} >= -1`,
      `${id} < 1000 or ${id} is null`,
      ...functions.map((f) => `${f.call!.replace("%", `${id}::int`)} is not null`),
    ]);
  }
  if (/text|varying/.test(type)) return draw.of([`length(${id}::text) < 200`, `${id} is distinct from 'never'`]);
  return draw.of([`${id} is not null or true`, `${id} is distinct from ${valueOf(state, type, 9)}`]);
}

/** Constraints of tables. */
export const constraints: Record<string, Make> = {
  add_key: (_state, draw) => {
    const table = draw.of(_state.tables);
    return `alter table ${table.id} add ${draw.maybe(`constraint ${draw.name()}`)} ${
      draw.of(["unique", "unique", "primary key", "unique nulls not distinct"])
    } (${draw.some(columnIds(table), 2).join(", ")}) ${
      draw.of(["", "", "deferrable", "deferrable initially deferred"])
    }`;
  },
  add_check: (state, draw) => {
    const table = draw.of(state.tables);
    return `alter table ${table.id} add constraint ${draw.name()} check (${condition(state, draw, table)}) ${
      draw.of(["", "", "not valid", "no inherit"])
    }`;
  },
  add_foreign_key: (state, draw) => {
    const keys = state.constraints.filter(({ kind, key }) => (kind === "p" || kind === "u") && key.length === 1);
    const target = draw.of(keys);
    const type =
      state.tables.find(({ id }) => id === target.table)!.columns.find(({ id }) => id === target.key[0])!.type;
    const table = draw.of(state.tables);
    const same = table.columns.filter((column) =>
      column.type === type && !column.is_generated && !table.key?.includes(column.id)
    );
    const end = draw.of([
      "",
      "",
      "on delete cascade",
      "on update cascade on delete set null",
      "deferrable initially deferred",
      "deferrable",
      "not valid",
    ]);
    const name = draw.name();
    const reference = `foreign key (%) references ${target.table} (${target.key[0]}) ${end}`;
    return same.length > 0 && draw.number() % 2 === 0
      ? `alter table ${table.id} add constraint ${name} ${reference.replace("%", draw.of(same).id)}`
      : `alter table ${table.id} add column ${name} ${type};
         alter table ${table.id} add constraint ${name} ${reference.replace("%", name)}`;
  },
  add_exclusion: (state, draw) => {
    const table = draw.of(state.tables);
    return `alter table ${table.id} add constraint ${draw.name()} exclude (${draw.of(columnIds(table))} with =) ${
      draw.maybe("where (false)")
    }`;
  },
  drop_constraint: (state, draw) => {
    const { id, table } = draw.of(state.constraints);
    return `alter table ${table} drop constraint ${id} ${draw.maybe("cascade")}`;
  },
  rename_constraint: (state, draw) => {
    const { id, table } = draw.of(state.constraints);
    return `alter table ${table} rename constraint ${id} to ${draw.name()}`;
  },
  validate_constraint: (state, draw) => {
    const { id, table } = draw.of(state.constraints.filter((c) => !c.is_valid));
    return `alter table ${table} validate constraint ${id}`;
  },
  defer_constraint: (state, draw) => {
    const { id, table } = draw.of(state.constraints.filter(({ kind }) => kind === "f"));
    return `alter table ${table} alter constraint ${id} ${
      draw.of(["deferrable", "not deferrable", "deferrable initially deferred"])
    }`;
  },
  replace_constraint: (state, draw) => {
    const { id, table } = draw.of(state.constraints.filter(({ kind }) => kind === "c"));
    return `alter table ${table} drop constraint ${id};
      alter table ${table} add constraint ${id} check (${
      condition(state, draw, state.tables.find((t) => t.id === table)!)
    })`;
  },
};
