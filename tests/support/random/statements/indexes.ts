import type { Make } from "../make.ts";

/** Indexes that no constraint has. */
export const indexes: Record<string, Make> = {
  create_index: (state, draw) => {
    const table = draw.of(state.tables);
    const column = draw.of(table.columns);
    const key = draw.of([
      column.id,
      `${column.id} desc nulls last`,
      ...(/text|varying/.test(column.type) ? [`lower(${column.id}::text)`, `${column.id} text_pattern_ops`] : []),
      ...(/int/.test(column.type) ? [`(${column.id} + 1)`] : []),
    ]);
    return `create ${draw.of(["", "", "unique"])} index ${draw.name()} on ${table.id} (${key}) ${
      draw.of(["", "", `where ${column.id} is not null`, "with (fillfactor = 80)"])
    }`;
  },
  create_unique_index: (state, draw) => {
    const table = draw.of(state.tables.filter((t) => t.columns.some((c) => c.is_not_null)));
    return `create unique index ${draw.name()} on ${table.id} (${
      draw.of(table.columns.filter((c) => c.is_not_null)).id
    })`;
  },
  drop_index: (state, draw) => `drop index ${draw.of(state.indexes).id}`,
  rename_index: (state, draw) => `alter index ${draw.of(state.indexes).id} rename to ${draw.name()}`,
  set_index_options: (state, draw) =>
    `alter index ${draw.of(state.indexes).id} ${draw.of(["set (fillfactor = 60)", "reset (fillfactor)"])}`,
  key_from_index: (state, draw) => {
    const { id, table } = draw.of(state.indexes.filter((i) => i.is_plain_unique));
    return `alter table ${table} add constraint ${draw.name()} unique using index ${
      id.replace(/^(app|archive)\./, "")
    }`;
  },
};
