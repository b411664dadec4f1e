import type { Make } from "../make.ts";

/** Triggers of tables. */
export const triggers: Record<string, Make> = {
  create_trigger: (state, draw) => {
    const table = draw.of(state.tables);
    const run = draw.of(state.functions.filter((f) => f.is_trigger));
    const call = run.id.replace(/\(\)$/, draw.of(["()", "('argument', 'it''s')"]));
    const column = draw.of(table.columns);
    return draw.of([
      `create trigger ${draw.name()} before insert or update on ${table.id} for each row execute function ${call}`,
      `create trigger ${draw.name()} after update of ${column.id} on ${table.id} for each row when (new.${column.id} is not null) execute function ${call}`,
      `create trigger ${draw.name()} after delete on ${table.id} for each statement execute function ${call}`,
      `create constraint trigger ${draw.name()} after insert on ${table.id} deferrable initially deferred for each row execute function ${call}`,
      `create trigger ${draw.name()} after update on ${table.id} referencing old table as was new table as is_now for each statement execute function ${call}`,
    ]);
  },
  replace_trigger: (state, draw) => {
    const { id, table } = draw.of(state.triggers);
    const run = draw.of(state.functions.filter((f) => f.is_trigger));
    return `drop trigger ${id} on ${table}; create trigger ${id} ${
      draw.of(["after", "before"])
    } insert on ${table} for each row execute function ${run.id}`;
  },
  drop_trigger: (state, draw) => {
    const { id, table } = draw.of(state.triggers);
    return `drop trigger ${id} on ${table}`;
  },
  rename_trigger: (state, draw) => {
    const { id, table } = draw.of(state.triggers);
    return `alter trigger ${id} on ${table} rename to ${draw.name()}`;
  },
  switch_trigger: (state, draw) => {
    const { id, table } = draw.of(state.triggers);
    return `alter table ${table} ${draw.of(["disable", "enable", "enable always", "enable replica"])} trigger ${id}`;
  },
};
