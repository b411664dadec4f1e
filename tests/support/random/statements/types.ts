import type { Make } from "../make.ts";

/** Enum, domain and composite types. */
export const types: Record<string, Make> = {
  create_enum: (_state, draw) =>
    `create type app.${draw.name()} as enum (${
      ["'low'", "'mid'", "'high'", "'it''s'"].slice(0, 1 + draw.number() % 4).join(", ")
    })`,
  create_domain: (_state, draw) =>
    draw.of([
      `create domain app.${draw.name()} as integer check (value >= -10)`,
      `create domain app.${draw.name()} as text constraint short check (length(value) < 100)`,
      `create domain app.${draw.name()} as text default 'none'`,
    ]),
  create_composite: (state, draw) =>
    `create type app.${draw.name()} as (one integer, two text, three ${
      draw.of(["boolean", ...state.enums.map((e) => e.id), ...state.domains.map((d) => d.id)])
    })`,
  add_enum_value: (state, draw) => {
    const { id, values } = draw.of(state.enums);
    return `alter type ${id} add value '${draw.name().replaceAll("'", "''").replaceAll(`"`, "")}' ${
      draw.of(["", ...values.map((v) => `before ${v}`)])
    }`;
  },
  rename_enum_value: (state, draw) => {
    const { id, values } = draw.of(state.enums);
    return `alter type ${id} rename value ${draw.of(values)} to '${
      draw.name().replaceAll("'", "''").replaceAll(`"`, "")
    }'`;
  },
  swap_enum_values: (state, draw) => {
    const { id, values } = draw.of(state.enums.filter((e) => e.values.length > 1));
    const [one, other] = values;
    return `alter type ${id} rename value ${one} to 'swapped'; alter type ${id} rename value ${other} to ${one}; alter type ${id} rename value 'swapped' to ${other}`;
  },
  rename_type: (state, draw) =>
    `alter type ${draw.of([...state.enums, ...state.composites, ...state.domains]).id} rename to ${draw.name()}`,
  drop_type: (state, draw) =>
    `drop type ${draw.of([...state.enums, ...state.composites, ...state.domains]).id} ${draw.maybe("cascade")}`,
  move_type: (state, draw) => {
    const { id, schema } = draw.of([...state.enums, ...state.composites, ...state.domains]);
    return `alter type ${id} set schema ${schema === "app" ? "archive" : "app"}`;
  },
  alter_domain: (state, draw) => {
    const { id, base, constraints } = draw.of(state.domains);
    const text = base === "text";
    return `alter domain ${id} ${
      draw.of([
        ...["set not null", "drop not null", `set default ${text ? "'other'" : "4"}`, "drop default"],
        ...[
          `add constraint ${draw.name()} check (${text ? "value <> 'never'" : "value < 100000"}) ${
            draw.maybe("not valid")
          }`,
        ],
        ...constraints.flatMap((
          c,
        ) => [`drop constraint ${c}`, `rename constraint ${c} to ${draw.name()}`, `validate constraint ${c}`]),
      ])
    }`;
  },
  alter_composite: (state, draw) => {
    const { id, attributes } = draw.of(state.composites);
    const attribute = draw.of(attributes).id;
    return `alter type ${id} ${
      draw.of([
        ...[`rename attribute ${attribute} to ${draw.name()}`, `add attribute ${draw.name()} date`],
        ...[`drop attribute ${attribute}`, `alter attribute ${attribute} type bigint`],
      ])
    } ${draw.maybe("cascade")}`;
  },
};
