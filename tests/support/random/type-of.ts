import type { Draw } from "./draw.ts";
import type { State } from "./read-state.ts";

/** A type for a column: a built-in one, or one of the schema's own. */
export function typeOf(state: State, draw: Draw): string {
  const own = [...state.enums, ...state.domains, ...state.composites].map(({ id }) => id);
  return draw.of([
    ...["integer", "text", "bigint", "boolean", "numeric(8,2)", "date", "timestamp with time zone", "uuid", "jsonb"],
    ...["text[]", "character varying(40)", "smallint"],
    ...own,
    ...own,
    ...own,
    ...state.enums.map(({ id }) => `${id}[]`),
  ]);
}
