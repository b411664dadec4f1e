import { Impossible } from "./draw.ts";
import type { State } from "./read-state.ts";

const texts = ["''", "'a'", "'b c'", "'it''s'", "'ü'", "'null'", `'{"x"}'`];

/** A constant of a type, another one for each number but for types that have few. */
export function valueOf(state: State, type: string, n: number): string {
  if (type.endsWith("[]")) return `array[${valueOf(state, type.slice(0, -2), n)}]::${type}`;
  const enumeration = state.enums.find(({ id }) => id === type);
  if (enumeration) {
    if (enumeration.values.length === 0) return `null::${type}`;
    return `${enumeration.values[n % enumeration.values.length]}::${type}`;
  }
  const domain = state.domains.find(({ id }) => id === type);
  if (domain) return `${valueOf(state, domain.base, n)}::${type}`;
  const composite = state.composites.find(({ id }) => id === type);
  if (composite) return `row(${composite.attributes.map((a) => valueOf(state, a.type, n)).join(", ")})::${type}`;
  switch (type.replace(/\(.*/, "")) {
    case "smallint":
    case "integer":
    case "bigint":
      return String(n);
    case "numeric":
      return String(n / 4);
    case "text":
    case "character varying":
      return texts[n % texts.length]!;
    case "boolean":
      return n % 2 === 0 ? "false" : "true";
    case "date":
      return `'2026-01-01'::date + ${n}`;
    case "timestamp with time zone":
      return `'2026-01-01T00:00:00Z'::timestamptz + interval '${n} hours'`;
    case "uuid":
      return `'00000000-0000-4000-8000-${String(n).padStart(12, "0")}'::uuid`;
    case "jsonb":
      return `'{"n": ${n}}'::jsonb`;
    default:
      throw new Impossible();
  }
}
