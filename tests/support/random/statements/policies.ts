import type { Draw } from "../draw.ts";
import type { Make } from "../make.ts";
import type { State, Table } from "../read-state.ts";

function condition(state: State, draw: Draw, table: Table): string {
  const { id } = draw.of(table.columns);
  const functions = state.functions.filter(({ call, returns }) => call && returns === "integer");
  const others = state.tables.filter((other) => other.id !== table.id && other.columns.length > 0);
  return draw.of([
    `${id} is not null`,
    "auth.uid() is not null",
    "true",
    ...functions.map(({ call }) => `${call!.replace("%", "3")} > 0`),
    ...others.map((other) =>
      `exists (select from ${other.id} as o where o.${draw.of(other.columns).id}::text = ${
        table.id.replace(/^(app|archive)\./, "")
      }.${id}::text)`
    ),
  ]);
}

/** Row security policies. */
export const policies: Record<string, Make> = {
  create_policy: (state, draw) => {
    const table = draw.of(state.tables.filter(({ columns }) => columns.length > 0));
    const [using, check] = [condition(state, draw, table), condition(state, draw, table)];
    return `create policy ${draw.name()} on ${table.id} ${draw.of(["", "", "as restrictive"])} ${
      draw.of([
        ...[`for select to authenticated using (${using})`, `for insert with check (${check})`],
        ...[`to anon, service_role using (${using}) with check (${check})`, `for delete using (${using})`],
      ])
    }`;
  },
  alter_policy: (state, draw) => {
    const { id, table } = draw.of(state.policies);
    const found = state.tables.find((t) => t.id === table);
    const using = found ? condition(state, draw, found) : "true";
    return `alter policy ${id} on ${table} ${
      draw.of([`using (${using})`, "to authenticated", "to public", `with check (${using})`])
    }`;
  },
  drop_policy: (state, draw) => {
    const { id, table } = draw.of(state.policies);
    return `drop policy ${id} on ${table}`;
  },
  rename_policy: (state, draw) => {
    const { id, table } = draw.of(state.policies);
    return `alter policy ${id} on ${table} rename to ${draw.name()}`;
  },
};
