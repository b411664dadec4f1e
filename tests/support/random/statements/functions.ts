import type { Draw } from "../draw.ts";
import type { Make } from "../make.ts";
import type { State } from "../read-state.ts";

/** Body and language of a function that gives a number. */
function numberBody(state: State, draw: Draw): string {
  const set = draw.of(settings);
  const n = draw.number() % 5;
  const tables = state.tables.filter(({ columns }) => columns.length > 0);
  const counted = tables.map(({ id, columns }) =>
    `language sql stable ${set} as $body$ select count(${draw.of(columns).id})::int + ${n} from ${id} $body$`
  );
  const atomic = tables.map(({ id, columns }) =>
    `language sql stable ${set} begin atomic select count(${draw.of(columns).id})::int + ${n} from ${id}; end`
  );
  return draw.of([
    `language sql immutable ${set} as $body$ select ${n} $body$`,
    `language plpgsql stable ${set} as $body$ begin return ${n}; end $body$`,
    `language sql immutable strict parallel safe ${set} begin atomic select ${n}; end`,
    ...counted,
    ...atomic,
  ]);
}

const settings = [
  ...["", "", "security definer", "set search_path = ''", "security definer set search_path = pg_catalog, pg_temp"],
  ...["cost 50", "set work_mem = '8MB'"],
];

/** Functions, those of triggers among them. */
export const functions: Record<string, Make> = {
  create_function: (state, draw) =>
    `create function app.${draw.name()}(${
      draw.of(["", "p int", "p int default 1", "p int, q text default 'x'"])
    }) returns int ${numberBody(state, draw)}`,
  create_table_function: (state, draw) => {
    const { id } = draw.of(state.tables);
    return `create function app.${draw.name()}() returns setof ${id} language sql stable as $body$ select t.* from ${id} as t $body$`;
  },
  create_row_function: (state, draw) => {
    const { id } = draw.of(state.tables);
    return `create function app.${draw.name()}(r ${id}) returns text language sql stable as $body$ select r::text $body$`;
  },
  create_typed_function: (state, draw) => {
    const { id } = draw.of([...state.enums, ...state.domains, ...state.composites]);
    return `create function app.${draw.name()}(v ${id}) returns ${
      draw.of(["text", "boolean"])
    } language plpgsql immutable as $body$ begin return v is null; end $body$`;
  },
  create_trigger_function: (_state, draw) =>
    `create function app.${draw.name()}() returns trigger language plpgsql ${
      draw.of(["", "security definer"])
    } as $body$ begin return ${draw.of(["new", "coalesce(new, old)"])}; end $body$`,
  create_procedure: (_state, draw) =>
    `create procedure app.${draw.name()}(inout p int default ${
      draw.number() % 5
    }) language plpgsql as $body$ begin p := p + 1; end $body$`,
  replace_body: (state, draw) => {
    const { id } = draw.of(state.functions);
    return `do $do$ declare f regprocedure := '${id.replaceAll("'", "''")}'; begin
      execute replace(replace(pg_get_functiondef(f), 'return ', '/* changed */ return '), 'select ', 'select /* changed ${
      draw.number() % 3
    } */ '); end $do$`;
  },
  change_signature: (state, draw) => {
    const { id, name, schema, is_trigger, returns } = draw.of(state.functions);
    if (is_trigger) return `alter function ${id} cost 77`;
    return `drop function ${id}; create function ${schema}."${name}"(p ${
      draw.of(["bigint", "int", "text"])
    }, more boolean default false)
      returns ${draw.of([returns, "text"])} language sql stable as $body$ select null::${
      draw.of([returns, "text"])
    } $body$`;
  },
  alter_function: (state, draw) =>
    `alter function ${draw.of(state.functions).id} ${
      draw.of([
        ...[
          "volatile",
          "stable",
          "immutable",
          "strict",
          "called on null input",
          "security definer",
          "security invoker",
        ],
        ...[
          "set search_path = pg_catalog",
          "set work_mem = '8MB'",
          "reset all",
          "cost 9",
          "parallel safe",
          "parallel restricted",
        ],
      ])
    }`,
  drop_function: (state, draw) => `drop function ${draw.of(state.functions).id} ${draw.maybe("cascade")}`,
  rename_function: (state, draw) => `alter function ${draw.of(state.functions).id} rename to ${draw.name()}`,
  move_function: (state, draw) => {
    const { id, schema } = draw.of(state.functions);
    return `alter function ${id} set schema ${schema === "app" ? "archive" : "app"}`;
  },
};
