import type postgres from "postgres";

type Relation = { id: string; schema: string; name: string };

export type Column = {
  /** Quoted, as it stands in a statement. */
  id: string;
  /** As format_type writes it. */
  type: string;
  is_not_null: boolean;
  is_identity: boolean;
  is_generated: boolean;
  has_default: boolean;
  /** The key's table and column that a foreign key of one column points to. */
  references: { table: string; column: string } | null;
};

export type Table = Relation & {
  is_partitioned: boolean;
  has_row_security: boolean;
  key: string[] | null;
  columns: Column[];
};

type View = Relation & { is_materialized: boolean; columns: string[] };
type Part = { id: string; table: string };

/** What the schemas `app` and `archive` hold at a moment, with the names that statements call it by. */
export type State = {
  tables: Table[];
  views: View[];
  constraints: (Part & { kind: string; is_valid: boolean; is_deferrable: boolean; key: string[] })[];
  indexes: (Part & { schema: string; is_plain_unique: boolean })[];
  policies: Part[];
  triggers: Part[];
  functions: (Relation & { call: string | null; returns: string; is_trigger: boolean; is_sql: boolean })[];
  sequences: (Relation & { is_internal: boolean })[];
  enums: (Relation & { values: string[] })[];
  domains: (Relation & { base: string; constraints: string[] })[];
  composites: (Relation & { attributes: { id: string; type: string }[] })[];
};

const query = `
with namespaces as (select oid, nspname from pg_namespace where nspname in ('app', 'archive')),
relations as (
  select c.*, n.nspname, format('%I.%I', n.nspname, c.relname) as id
  from pg_class as c join namespaces as n on n.oid = c.relnamespace
),
types as (
  select t.*, n.nspname, format('%I.%I', n.nspname, t.typname) as id
  from pg_type as t join namespaces as n on n.oid = t.typnamespace
)
select jsonb_build_object(
  'tables', (
    select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'schema', r.nspname, 'name', r.relname,
      'is_partitioned', r.relkind = 'p', 'has_row_security', r.relrowsecurity,
      'key', (
        select jsonb_agg(quote_ident(a.attname) order by k.place)
        from pg_constraint as o, unnest(o.conkey) with ordinality as k (attnum, place)
        join pg_attribute as a on a.attnum = k.attnum
        where o.conrelid = r.oid and o.contype = 'p' and a.attrelid = r.oid),
      'columns', (
        select coalesce(jsonb_agg(jsonb_build_object('id', quote_ident(a.attname), 'type', format_type(a.atttypid, a.atttypmod),
          'is_not_null', a.attnotnull, 'is_identity', a.attidentity <> '', 'is_generated', a.attgenerated <> '',
          'has_default', a.atthasdef and a.attgenerated = '',
          'references', (
            select jsonb_build_object('table', f.id, 'column', quote_ident(fa.attname))
            from pg_constraint as o
            join relations as f on f.oid = o.confrelid
            join pg_attribute as fa on fa.attrelid = f.oid and fa.attnum = o.confkey[1]
            where o.conrelid = r.oid and o.contype = 'f' and o.conkey = array[a.attnum] order by o.conname limit 1)
          ) order by a.attnum), '[]')
        from pg_attribute as a where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped)
      ) order by r.id), '[]')
    from relations as r where r.relkind in ('r', 'p') and not r.relispartition),
  'views', (
    select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'schema', r.nspname, 'name', r.relname,
      'is_materialized', r.relkind = 'm',
      'columns', (select coalesce(jsonb_agg(quote_ident(a.attname) order by a.attnum), '[]') from pg_attribute as a where a.attrelid = r.oid and a.attnum > 0)
      ) order by r.id), '[]')
    from relations as r where r.relkind in ('v', 'm')),
  'constraints', (
    select coalesce(jsonb_agg(jsonb_build_object('id', quote_ident(o.conname), 'table', r.id, 'kind', o.contype,
      'is_valid', o.convalidated, 'is_deferrable', o.condeferrable,
      'key', (select coalesce(jsonb_agg(quote_ident(a.attname) order by k.place), '[]') from unnest(o.conkey) with ordinality as k (attnum, place)
        join pg_attribute as a on a.attrelid = o.conrelid and a.attnum = k.attnum)
      ) order by r.id, o.conname), '[]')
    from pg_constraint as o join relations as r on r.oid = o.conrelid
    where o.contype in ('p', 'u', 'c', 'f', 'x') and not r.relispartition),
  'indexes', (
    select coalesce(jsonb_agg(jsonb_build_object('id', i.id, 'schema', i.nspname, 'table', r.id,
      'is_plain_unique', x.indisunique and x.indpred is null and x.indexprs is null and x.indimmediate) order by i.id), '[]')
    from pg_index as x
    join relations as i on i.oid = x.indexrelid
    join relations as r on r.oid = x.indrelid
    where not r.relispartition and not exists (select from pg_constraint as o where o.conindid = i.oid and o.contype in ('p', 'u', 'x'))),
  'policies', (
    select coalesce(jsonb_agg(jsonb_build_object('id', quote_ident(p.polname), 'table', r.id) order by r.id, p.polname), '[]')
    from pg_policy as p join relations as r on r.oid = p.polrelid),
  'triggers', (
    select coalesce(jsonb_agg(jsonb_build_object('id', quote_ident(t.tgname), 'table', r.id) order by r.id, t.tgname), '[]')
    from pg_trigger as t join relations as r on r.oid = t.tgrelid where not t.tgisinternal and not r.relispartition),
  'functions', (
    select coalesce(jsonb_agg(jsonb_build_object('id', p.oid::regprocedure, 'schema', n.nspname, 'name', p.proname,
      'call', case when p.pronargs = 0 then format('%I.%I()', n.nspname, p.proname)
        when p.pronargs = 1 and p.proargtypes[0] = 'int4'::regtype then format('%I.%I(%%)', n.nspname, p.proname) end,
      'returns', format_type(p.prorettype, null), 'is_trigger', p.prorettype = 'trigger'::regtype,
      'is_sql', p.prosqlbody is not null) order by p.oid::regprocedure::text), '[]')
    from pg_proc as p join namespaces as n on n.oid = p.pronamespace where p.prokind = 'f'),
  'sequences', (
    select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'schema', r.nspname, 'name', r.relname,
      'is_internal', exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.deptype = 'i')
      ) order by r.id), '[]')
    from relations as r where r.relkind = 'S'),
  'enums', (
    select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'schema', t.nspname, 'name', t.typname,
      'values', (select coalesce(jsonb_agg(quote_literal(e.enumlabel) order by e.enumsortorder), '[]') from pg_enum as e where e.enumtypid = t.oid)
      ) order by t.id), '[]')
    from types as t where t.typtype = 'e'),
  'domains', (
    select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'schema', t.nspname, 'name', t.typname,
      'base', format_type(t.typbasetype, t.typtypmod),
      'constraints', (select coalesce(jsonb_agg(quote_ident(o.conname) order by o.conname), '[]') from pg_constraint as o where o.contypid = t.oid and o.contype = 'c')
      ) order by t.id), '[]')
    from types as t where t.typtype = 'd'),
  'composites', (
    select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'schema', t.nspname, 'name', t.typname,
      'attributes', (
        select coalesce(jsonb_agg(jsonb_build_object('id', quote_ident(a.attname), 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum), '[]')
        from pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
      ) order by t.id), '[]')
    from types as t join relations as r on r.oid = t.typrelid where r.relkind = 'c')
) as state`;

export async function readState(sql: postgres.Sql): Promise<State> {
  const [row] = await sql.unsafe<[{ state: State }]>(query);
  return row.state;
}
