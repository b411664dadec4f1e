import { parse } from "postgres-array";
import type postgres from "postgres";

/** OIDs of Postgres's own types and of the arrays of them, as `pg_type` has them. */
const arrays: [type: number, array: number][] = [
  // boolean, bytea, name, oid, regclass, uuid
  [16, 1000],
  [17, 1001],
  [19, 1003],
  [26, 1028],
  [2205, 2210],
  [2950, 2951],
  // smallint, integer, bigint, real, double precision, numeric
  [21, 1005],
  [23, 1007],
  [20, 1016],
  [700, 1021],
  [701, 1022],
  [1700, 1231],
  // text, char, varchar, json, jsonb
  [25, 1009],
  [1042, 1014],
  [1043, 1015],
  [114, 199],
  [3802, 3807],
  // date, time, timestamp, timestamptz, timetz, interval
  [1082, 1182],
  [1083, 1183],
  [1114, 1115],
  [1184, 1185],
  [1266, 1270],
  [1186, 1187],
];

/** Tells a client of the driver's that has `fetch_types` off how arrays are read and written. */
export function knowArrayTypes({ options: { parsers, serializers } }: postgres.Sql): void {
  for (const [type, array] of arrays) {
    parsers[array] = (text: string) => parse(text, (element) => parsers[type]?.(element) ?? element);
    serializers[array] = (value: unknown) =>
      Array.isArray(value) ? arrayText(value, serializers[type] ?? String) : value;
  }
}

/** As Postgres reads an array: each element in quotes, of which those in it and backslashes are escaped. */
function arrayText(values: unknown[], serialize: (value: unknown) => unknown): string {
  const elements = values.map((value) => {
    if (value === null || value === undefined) return "NULL";
    if (Array.isArray(value)) return arrayText(value, serialize);
    return `"${String(serialize(value)).replace(/["\\]/g, "\\$&")}"`;
  });
  return `{${elements.join(",")}}`;
}
