import type postgres from "postgres";

/** A reference from one system catalog's columns to another, as Postgres describes it. */
type Reference = { columns: string[]; target: string; target_columns: string[]; is_array: boolean };

type Catalog = { name: string; columns: string[]; references: Reference[] };

/** The system catalogs that describe what a schema holds, each with the condition that leaves out what comes with a server. */
const catalogs = (first: number): Record<string, string> => ({
  pg_namespace: `r.oid >= ${first} and r.nspname !~ '^pg_(toast_)?temp_'`,
  pg_class: `r.oid >= ${first} and not (r.relnamespace = 'pg_toast'::regnamespace and r.relkind = 'i')`,
  pg_attribute: `r.attrelid >= ${first} and r.attnum > 0 and not r.attisdropped`,
  pg_attrdef: `r.oid >= ${first}`,
  pg_constraint: `r.oid >= ${first}`,
  pg_index: `r.indexrelid >= ${first}`,
  pg_inherits: `r.inhrelid >= ${first}`,
  pg_partitioned_table: "true",
  pg_foreign_table: "true",
  pg_sequence: "true",
  pg_trigger: `r.oid >= ${first}`,
  pg_rewrite: `r.oid >= ${first}`,
  pg_policy: `r.oid >= ${first}`,
  pg_proc: `r.oid >= ${first}`,
  pg_aggregate: `r.aggfnoid >= ${first}`,
  pg_type: `r.oid >= ${first}`,
  pg_enum: "true",
  pg_range: `r.rngtypid >= ${first}`,
  pg_statistic_ext: "true",
  pg_publication_rel: "true",
  pg_publication_namespace: "true",
  pg_default_acl: "true",
  pg_description: `r.objoid >= ${first}`,
  pg_depend: `r.objid >= ${first} and not exists (
    select from pg_constraint as o where o.oid = r.objid and o.contype = 'f' and o.conindid = r.refobjid)`,
});

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;
const nameOf = (catalog: string, value: string) =>
  `(pg_identify_object(${literal(catalog)}::regclass, ${value}, 0)).identity`;

/** What differs between two databases that hold the same: numbers, estimates, hints, and what Postgres never reads. */
const ignored: Record<string, string[]> = {
  pg_class: [
    ...["relfilenode", "relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid"],
    // Hints that stay true after the last one has gone, and the count that dropped columns are part of.
    ...["relhasindex", "relhasrules", "relhastriggers", "relhassubclass", "relnatts"],
    // Rows, not definition.
    "relispopulated",
  ],
  pg_attribute: ["attcacheoff", "attndims", "atthasmissing", "attmissingval"],
  pg_index: ["indcheckxmin"],
  pg_type: ["typndims"],
};

/** How a catalog's expressions are read; the rest are read with pg_get_expr, relative to the column that is named. */
const expressions: Record<string, Record<string, string>> = {
  pg_attrdef: { adbin: "pg_get_expr(r.adbin, r.adrelid)" },
  pg_class: { relpartbound: "pg_get_expr(r.relpartbound, r.oid)" },
  pg_constraint: { conbin: "pg_get_expr(r.conbin, r.conrelid)" },
  pg_index: { indexprs: "pg_get_expr(r.indexprs, r.indrelid)", indpred: "pg_get_expr(r.indpred, r.indrelid)" },
  pg_partitioned_table: { partexprs: "pg_get_expr(r.partexprs, r.partrelid)" },
  pg_policy: { polqual: "pg_get_expr(r.polqual, r.polrelid)", polwithcheck: "pg_get_expr(r.polwithcheck, r.polrelid)" },
  pg_proc: { proargdefaults: "pg_get_expr(r.proargdefaults, 0)", prosqlbody: "pg_get_function_sqlbody(r.oid)" },
  pg_publication_rel: { prqual: "pg_get_expr(r.prqual, r.prrelid)" },
  pg_rewrite: { ev_qual: "null", ev_action: "pg_get_ruledef(r.oid)" },
  pg_statistic_ext: { stxexprs: "pg_get_statisticsobjdef_expressions(r.oid)" },
  pg_trigger: { tgqual: "pg_get_triggerdef(r.oid)" },
  pg_type: { typdefaultbin: "pg_get_expr(r.typdefaultbin, 0)" },
};

/** What has a meaning in relation to other rows only. */
const places: Record<string, Record<string, string>> = {
  pg_attribute: {
    attnum: "row_number() over (partition by r.attrelid order by r.attnum)",
    // An index keeps the names that its columns had when it was made, and some methods the storage.
    attname: "case when not exists (select from pg_index as i where i.indexrelid = r.attrelid) then r.attname end",
    attstorage:
      "case when not exists (select from pg_index as i where i.indexrelid = r.attrelid) then r.attstorage end",
  },
  pg_class: {
    relname:
      "coalesce((select 'toast of ' || o.oid::regclass from pg_class as o where o.reltoastrelid = r.oid), r.relname)",
  },
  // Of a key it tells only how the key came to its table.
  pg_constraint: {
    connoinherit: "r.connoinherit and r.contype not in ('p', 'u', 'x')",
    // Of several keys of the same columns Postgres takes the one that was there first.
    conindid: `case when r.contype <> 'f' and r.conindid <> 0 then ${nameOf("pg_class", "r.conindid")} end`,
  },
  pg_trigger: {
    tgconstrindid: `(select ${nameOf("pg_class", "o.conindid")} from pg_constraint as o
      where o.oid = r.tgconstraint and o.contype <> 'f' and o.conindid <> 0)`,
  },
  pg_publication_rel: {
    prattrs: `(select jsonb_agg(a.attname order by a.attnum)
      from pg_attribute as a where a.attrelid = r.prrelid and a.attnum = any (r.prattrs))`,
  },
  // The object that is described is named with its column.
  pg_description: { objsubid: "r.objsubid > 0" },
  pg_enum: { enumsortorder: "row_number() over (partition by r.enumtypid order by r.enumsortorder)" },
};

const sorted = (acl: string) => `(select jsonb_agg(a order by a::text) from unnest(${acl}) as a)`;

/** Privileges that were never touched are those that the kind of object starts with; their order says nothing. */
const privileges: Record<string, Record<string, string>> = {
  pg_attribute: { attacl: sorted("r.attacl") },
  pg_class: {
    relacl: sorted(`coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner))`),
  },
  pg_default_acl: { defaclacl: sorted("r.defaclacl") },
  pg_namespace: { nspacl: sorted("coalesce(r.nspacl, acldefault('n', r.nspowner))") },
  pg_proc: { proacl: sorted("coalesce(r.proacl, acldefault('f', r.proowner))") },
  pg_type: { typacl: sorted("coalesce(r.typacl, acldefault('T', r.typowner))") },
};

/** The expression of a column that refers to other rows: their names instead of their numbers. */
function named(catalog: Catalog, column: string): string | undefined {
  const reference = catalog.references.find(({ columns }) => columns.at(-1) === column);
  if (!reference) return undefined;
  const { columns, target, target_columns, is_array } = reference;
  const one = (value: string) =>
    target === "pg_attribute"
      ? `(select a.attname from pg_attribute as a where a.attrelid = r.${columns[0]} and a.attnum = ${value})`
      : `case when ${value} <> 0 then ${nameOf(target, value)} end`;
  if (target_columns.at(-1) !== "oid" && target !== "pg_attribute") return undefined;
  return is_array
    ? `(select jsonb_agg(${
      one("e.value")
    } order by e.place) from unnest(r.${column}) with ordinality as e (value, place))`
    : one(`r.${column}`);
}

/** Whatever the numbers are that Postgres puts into names of its own. */
const withoutNumbers = (text: string) =>
  text.replace(/pg_toast_\d+/g, "pg_toast_of").replace(/(_ConstraintTrigger_(?:[ac]_)?)\d+/g, "$1");

function query(catalog: Catalog, condition: string): string {
  const { name, columns } = catalog;
  const replaced: Record<string, string> = { ...expressions[name], ...places[name], ...privileges[name] };
  for (const column of columns) {
    const expression = replaced[column] ?? named(catalog, column);
    if (expression) replaced[column] = expression;
  }
  if (name === "pg_description") replaced.objoid = "(pg_identify_object(r.classoid, r.objoid, r.objsubid)).identity";
  if (name === "pg_depend") {
    replaced.objid = "(pg_identify_object(r.classid, r.objid, r.objsubid)).identity";
    replaced.refobjid = "(pg_identify_object(r.refclassid, r.refobjid, r.refobjsubid)).identity";
    replaced.objsubid = replaced.refobjsubid = "null";
  }
  const dropped = ["oid", ...(ignored[name] ?? [])];
  return `select ${name === "pg_depend" ? "distinct" : ""} to_jsonb(r) - ${
    literal(`{${dropped.join()}}`)
  }::text[] || jsonb_build_object(${
    Object.entries(replaced).filter(([column]) => columns.includes(column))
      .map(([column, expression]) => `${literal(column)}, ${expression}`).join(", ")
  }) as content from pg_catalog.${name} as r where ${condition}`;
}

/**
 * Every row of the system catalogs about what a database holds, as text, with names instead of object numbers: two
 * databases with the same rows have the same schema, as far as Postgres itself can tell. Read as a superuser.
 *
 * @param except Leaves out rows about what is no part of the comparison.
 * @param first Leaves out objects that were made before the one with this number.
 */
export async function catalogRows(sql: postgres.Sql, except: RegExp, first = 16384): Promise<string[]> {
  const conditions = catalogs(first);
  const described = await sql<Catalog[]>`
    select c.relname as name,
      (select jsonb_agg(a.attname order by a.attnum)
       from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0) as columns,
      coalesce((select jsonb_agg(jsonb_build_object('columns', f.fkcols, 'target', f.pktable::regclass::text,
         'target_columns', f.pkcols, 'is_array', f.is_array))
       from pg_get_catalog_foreign_keys() as f where f.fktable = c.oid), '[]') as references
    from pg_class as c where c.relnamespace = 'pg_catalog'::regnamespace and c.relname = any (${
    Object.keys(conditions)
  })`;
  const rows: string[] = [];
  await sql.begin("read only", async (transaction) => {
    await transaction`set local search_path = pg_catalog`;
    for (const catalog of described) {
      for (const { content } of await transaction.unsafe(query(catalog, conditions[catalog.name]!))) {
        rows.push(withoutNumbers(`${catalog.name} ${JSON.stringify(content)}`));
      }
    }
  });
  // A toast table has nothing of its own but its options, which its row in pg_class has.
  return rows.filter((row) => !except.test(row) && (row.startsWith("pg_class ") || !row.includes("pg_toast_of")))
    .sort();
}
