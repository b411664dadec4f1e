import type { Make } from "../make.ts";
import type { Draw } from "../draw.ts";
import type { State } from "../read-state.ts";

/** A query over what is there: tables, and views over them. */
function queryOf(state: State, draw: Draw): string {
  const sources = [
    ...state.tables.map(({ id, columns }) => ({ id, columns: columns.map((c) => c.id) })),
    ...state.views.map(({ id, columns }) => ({ id, columns })),
  ].filter(({ columns }) => columns.length > 0);
  const one = draw.of(sources);
  const columns = draw.some(one.columns, 3);
  const functions = state.functions.filter(({ call, returns, is_trigger }) =>
    call && !is_trigger && /^[a-z]+$/.test(returns)
  );
  const other = draw.of(sources);
  return draw.of([
    `select ${columns.map((c) => `r.${c}`).join(", ")} from ${one.id} as r`,
    `select r.* from ${one.id} as r where r.${columns[0]} is not null`,
    `select count(*) as amount, max(r.${columns[0]}::text) as most from ${one.id} as r`,
    `select r.${columns[0]} as one, o.${other.columns[0]} as other from ${one.id} as r cross join ${other.id} as o`,
    ...functions.map(({ call }) => `select r.${columns[0]}, ${call!.replace("%", "1")} as called from ${one.id} as r`),
  ]);
}

/** Views, stored or not. */
export const views: Record<string, Make> = {
  create_view: (state, draw) =>
    `create view app.${draw.name()} ${
      draw.of(["", "", "with (security_invoker = true)", "with (security_barrier = true)"])
    } as ${queryOf(state, draw)}`,
  create_materialized_view: (state, draw) =>
    `create materialized view app.${draw.name()} as ${queryOf(state, draw)} ${draw.of(["", "", "with no data"])}`,
  index_materialized_view: (state, draw) => {
    const view = draw.of(state.views.filter((v) => v.is_materialized));
    return `create index ${draw.name()} on ${view.id} (${draw.of(view.columns)})`;
  },
  replace_view: (state, draw) =>
    `create or replace view ${draw.of(state.views.filter((v) => !v.is_materialized)).id} as ${queryOf(state, draw)}`,
  extend_view: (state, draw) => {
    const { id } = draw.of(state.views.filter((v) => !v.is_materialized));
    return `do $do$ begin execute format('create or replace view %s as select v.*, 1 as ${
      draw.name().replaceAll("'", "''")
    } from (%s) as v',
      '${id.replaceAll("'", "''")}', rtrim(pg_get_viewdef('${id.replaceAll("'", "''")}'::regclass), ';')); end $do$`;
  },
  drop_view: (state, draw) => {
    const { id, is_materialized } = draw.of(state.views);
    return `drop ${is_materialized ? "materialized view" : "view"} ${id} ${draw.maybe("cascade")}`;
  },
  rename_view: (state, draw) => {
    const { id, is_materialized } = draw.of(state.views);
    return `alter ${is_materialized ? "materialized view" : "view"} ${id} rename to ${draw.name()}`;
  },
  rename_view_column: (state, draw) => {
    const { id, is_materialized, columns } = draw.of(state.views);
    return `alter ${is_materialized ? "materialized view" : "view"} ${id} rename column ${
      draw.of(columns)
    } to ${draw.name()}`;
  },
  set_view_options: (state, draw) =>
    `alter view ${draw.of(state.views.filter((v) => !v.is_materialized)).id} ${
      draw.of([
        "set (security_invoker = true)",
        "set (security_invoker = false)",
        "reset (security_barrier)",
        "set (security_barrier = true)",
      ])
    }`,
  move_view: (state, draw) => {
    const { id, schema, is_materialized } = draw.of(state.views);
    return `alter ${is_materialized ? "materialized view" : "view"} ${id} set schema ${
      schema === "app" ? "archive" : "app"
    }`;
  },
  refresh_view: (state, draw) =>
    `refresh materialized view ${draw.of(state.views.filter((v) => v.is_materialized)).id}`,
};
