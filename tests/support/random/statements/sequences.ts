import type { Make } from "../make.ts";

/** Sequences. */
export const sequences: Record<string, Make> = {
  create_sequence: (_state, draw) =>
    `create sequence app.${draw.name()} ${
      draw.of([
        "",
        "as int start 10",
        "increment by -1 minvalue -1000 maxvalue 5 start 5",
        "cache 10 cycle maxvalue 500",
      ])
    }`,
  drop_sequence: (state, draw) => `drop sequence ${draw.of(state.sequences).id} ${draw.maybe("cascade")}`,
  rename_sequence: (state, draw) => `alter sequence ${draw.of(state.sequences).id} rename to ${draw.name()}`,
  alter_sequence: (state, draw) =>
    `alter sequence ${draw.of(state.sequences).id} ${
      draw.of([
        "increment by 5",
        "cache 3",
        "maxvalue 100000",
        "no maxvalue",
        "cycle",
        "no cycle",
        "restart with 30",
        "as bigint",
      ])
    }`,
  own_sequence: (state, draw) => {
    const { id } = draw.of(state.sequences.filter((s) => !s.is_internal));
    const table = draw.of(state.tables.filter((t) => t.columns.length > 0));
    return `alter sequence ${id} owned by ${draw.of([`${table.id}.${draw.of(table.columns).id}`, "none"])}`;
  },
  advance_sequence: (state, draw) =>
    `select nextval('${draw.of(state.sequences).id.replaceAll("'", "''")}') from generate_series(1, ${
      1 + draw.number() % 9
    })`,
};
