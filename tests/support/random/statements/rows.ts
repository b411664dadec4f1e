import type { Draw } from "../draw.ts";
import type { Make } from "../make.ts";
import type { Column, State } from "../read-state.ts";
import { valueOf } from "../value-of.ts";

function expression(state: State, draw: Draw, column: Column): string {
  const n = draw.number();
  if (column.references) {
    const { table, column: key } = column.references;
    return `(select k.${key} from ${table} as k order by k.${key} limit 1 offset ${n % 3})`;
  }
  if (!column.is_not_null && n % 5 === 4) return "null";
  return valueOf(state, column.type, n % 30);
}

/** What writes rows. */
export const rows: Record<string, Make> = {
  insert: (state, draw) => {
    const table = draw.of(state.tables);
    const written = table.columns.filter((c) =>
      !c.is_generated && !c.is_identity && !(c.has_default && draw.number() % 2 === 0)
    );
    const row = () => `(${written.map((c) => expression(state, draw, c)).join(", ")})`;
    if (written.length === 0) return `insert into ${table.id} default values`;
    return `insert into ${table.id} (${written.map((c) => c.id).join(", ")}) values ${
      Array.from({ length: 1 + draw.number() % 4 }, row).join(", ")
    } on conflict do nothing`;
  },
  update: (state, draw) => {
    const table = draw.of(state.tables);
    const column = draw.of(table.columns.filter((c) => !c.is_generated && !c.is_identity));
    return `update ${table.id} set ${column.id} = ${expression(state, draw, column)} ${
      draw.of(["", `where ${draw.of(table.columns).id} is not null`, "where ctid = '(0,1)'", "where ctid = '(0,2)'"])
    }`;
  },
  delete: (state, draw) => {
    const table = draw.of(state.tables);
    return `delete from ${table.id} ${
      draw.of(["where ctid = '(0,1)'", "where ctid = '(0,2)'", `where ${draw.of(table.columns).id} is null`, ""])
    }`;
  },
  truncate: (state, draw) => `truncate ${draw.of(state.tables).id} ${draw.of(["", "cascade", "restart identity"])}`,
};
