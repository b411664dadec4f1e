-- Chapter 6, continued. The statements of a backup's objects, in the order in which they make the schema again.

create function migration_guard.create_rebuild_script(schema_name text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $create$
begin
  execute replace($template$
    create function {schema}.shell_definition(object {schema}.objects_backup) returns text
    language sql stable
    set search_path = pg_catalog, pg_temp
    as $body$
      select case object.kind when 'range_type' then format('create type %I.%I', object.schema_name, object.name)
      else format('create view %I.%I as select ', object.schema_name, object.name) || string_agg(
        format('null::%s as %I', substr(o.definition, length(format('alter table %I.%I add column %I ', o.schema_name, o.parent_name, o.name)) + 1), o.name), ', ' order by o.sort_order) end
      from {schema}.objects_backup as o
      where o.parent_classid = object.classid and o.parent = object.objid and o.kind = 'column'
    $body$;
    comment on function {schema}.shell_definition({schema}.objects_backup) is
      'What stands for a view or a type until what that needs is there: a view of the same columns, a shell type.';

    create function {schema}.reset_privileges(schema_name text) returns text
    language sql immutable
    set search_path = pg_catalog, pg_temp
    as $body$
      select format($do$do $reset$
      declare
        given record;
      begin
        for given in
          select distinct o.object, case when a.grantee = 0 then 'public' else pg_catalog.format('%%I', pg_catalog.pg_get_userbyid(a.grantee)) end as grantee
          from (
            select case c.relkind when 'S' then 'sequence ' else 'table ' end || c.oid::regclass as object, c.relacl as acl, c.relowner as owner
            from pg_catalog.pg_class as c where c.relnamespace = %1$L::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
            union all
            select 'routine ' || p.oid::regprocedure, p.proacl, p.proowner from pg_catalog.pg_proc as p where p.pronamespace = %1$L::regnamespace
            union all
            select 'type ' || t.oid::regtype, t.typacl, t.typowner from pg_catalog.pg_type as t where t.typnamespace = %1$L::regnamespace and t.typelem = 0
          ) as o
          cross join lateral pg_catalog.aclexplode(o.acl) as a
          -- Everybody may use functions and types by default.
          where a.grantee <> o.owner and (a.grantee <> 0 or o.object ~ '^(table|sequence) ')
        loop
          execute pg_catalog.format('revoke all on %%s from %%s', given.object, given.grantee);
        end loop;
      end $reset$$do$, quote_ident(schema_name))
    $body$;
    comment on function {schema}.reset_privileges(text) is
      'A statement that takes from everybody but the owners what they may do with what is in a schema, beyond Postgres''s defaults.';

    create function {schema}.rebuild_script() returns table (step int, kind text, identity text, statement text)
    language sql stable
    set search_path = pg_catalog, pg_temp
    as $body$
      with objects as (
        select o.*,
          -- A part comes with its whole.
          coalesce(o.creation_order, w.creation_order) as position, coalesce(o.sort_order, 0) as place,
          format('%s %s', case when o.kind in ('enum', 'composite_type', 'range_type') then 'type'
            when o.kind = 'attribute' then 'column' when o.kind = 'domain_constraint' then 'constraint' else replace(o.kind, '_', ' ') end, o.identity) as target
        from {schema}.objects_backup as o
        left join {schema}.objects_backup as w on w.classid = o.parent_classid and w.objid = o.parent and w.objsubid = 0 and w.creation_order is not null
      ),
      statements as (
        -- A body may name what comes after its function.
        select 1 as part, 0::numeric as position, 0::real as place, 0 as number, 'schema' as kind, o.identity, 'set check_function_bodies = off' as statement
        from objects as o where o.kind = 'schema'
        union all
        select 2, (
            select min(n.position) from objects as n
            join {schema}.dependencies_backup as d on (d.classid, d.objid, d.refclassid, d.refobjid) = (n.classid, n.objid, o.classid, o.objid)
            where not d.is_setting
          ) - 0.5, o.place, 0, o.kind, o.identity, {schema}.shell_definition(b)
        from objects as o join {schema}.objects_backup as b on b.classid = o.classid and b.objid = o.objid and b.objsubid = 0
        where o.needs_shell
        union all
        select 2, o.position, o.place, 0, o.kind, o.identity,
          -- A sequence that its column has made stands where a sequence begins by default.
          o.definition || case when o.kind = 'sequence' and o.definition ~ '^alter' then ' restart' else '' end
        from objects as o
        where not o.is_internal and o.kind not in ('column', 'attribute', 'enum_value', 'default_privilege')
        union all
        -- A materialized view is filled at the end, by its owner: its query may call anybody's function.
        select case when o.kind = 'materialized_view' and s.statement ~ '^refresh' then 10 else 3 end, o.position, o.place, s.number::int, o.kind, o.identity, s.statement
        from objects as o cross join lateral unnest(o.settings) with ordinality as s (statement, number)
        union all
        select 4, o.position, o.place, 0, o.kind, o.identity, format('alter %s owner to %I', o.target, o.owner)
        from objects as o where o.owner is not null
        union all
        select 5, o.position, o.place, 0, o.kind, o.identity, format('comment on %s is %L', o.target, o.comment)
        from objects as o where o.comment is not null
        union all
        -- What default privileges have given to the new objects here.
        select 6, 0, 0, 0, 'schema', o.identity, {schema}.reset_privileges(o.name)
        from objects as o where o.kind = 'schema'
        union all
        select 7, o.position, o.place, g.number::int, o.kind, o.identity, g.statement
        from objects as o cross join lateral unnest(o.grants) with ordinality as g (statement, number)
        union all
        select 8, o.position, o.place, 0, o.kind, o.identity, format('select pg_catalog.setval(%L, %s, %L)', o.identity, o.last_value, o.is_called)
        from objects as o where o.last_value is not null
        union all
        -- Last, since nothing that is made here is to have them.
        select 9, o.position, o.place, 0, o.kind, o.identity, o.definition
        from objects as o where o.kind = 'default_privilege'
      )
      select (row_number() over (order by s.part, s.position, s.place, s.identity, s.number))::int, s.kind, s.identity, s.statement
      from statements as s
      order by 1
    $body$;
    comment on function {schema}.rebuild_script() is
      'The statements that make the schema again, without its rows, where it is not: run them one after the other in one session. Roles, extensions and other schemas must be there.'
  $template$, '{schema}', format('%I', schema_name));
end
$create$;
comment on function migration_guard.create_rebuild_script(text) is
  'Makes the functions of a backup schema that put its statements in order: shell_definition, reset_privileges, rebuild_script.';
