-- Functions and procedures: languages, attributes, arguments, bodies.
create schema if not exists app;

create table app.item (id integer primary key, name text, price numeric(8, 2));
create type app.size as enum ('s', 'm', 'l');

-- Attributes.
create function app.defaults_of_all() returns integer language sql as 'select 1';
create function app.all_attributes(a integer) returns integer
language plpgsql immutable leakproof strict security definer parallel safe cost 5
set search_path = app, pg_catalog set work_mem = '8MB' set "app.setting" to 'it''s; "x"' set datestyle to iso, dmy set timezone = 'UTC'
as $$ begin return a; end $$;
create function app.stable_one() returns integer language sql stable parallel restricted as $$ select 1 $$;
create function app.volatile_one() returns integer language sql volatile called on null input security invoker as $$ select 1 $$;
create function app.many_rows() returns setof integer language sql stable cost 3.5 rows 12 as $$ values (1), (2) $$;
create function app.empty_path() returns integer language sql set search_path = '' as $$ select 1 $$;
create function app.from_current() returns integer language sql set search_path from current as $$ select 1 $$;
create function app.quoted_path() returns integer language sql set search_path = app, "$user", "Odd ""Schema""" as $$ select 1 $$;
create function app.internal_one(integer) returns integer language internal immutable strict as 'int4abs';

-- Arguments.
create function app.no_names(integer, text, numeric[]) returns text language sql as $$ select $2 $$;
create function app.named(a integer, "B" text, "select" boolean) returns text language sql as $$ select "B" $$;
create function app.with_defaults(a integer, b text default 'it''s; --', c integer[] default '{1,2}', d app.size default 'm', e timestamptz default now())
returns text language sql as $$ select b $$;
create function app.with_out(a integer, out b integer, inout c text, out d app.item) language sql as $$ select a, c, null::app.item $$;
create function app.one_out(out result integer) language sql as $$ select 1 $$;
create function app.with_variadic(a integer, variadic b text[] default '{}') returns integer language sql as $$ select a $$;
create function app.variadic_any(variadic "any") returns integer language internal immutable as 'pg_num_nonnulls';
create function app.returns_table(a integer) returns table (id integer, "Odd name" text, list numeric[]) language sql rows 7 as $$ select a, 'x', null::numeric[] $$;
create function app.returns_setof() returns setof app.item language sql as $$ select * from app.item $$;
create function app.returns_record() returns record language sql as $$ select 1, 2 $$;
create function app.returns_setof_record(out a integer, out b integer) returns setof record language sql as $$ select 1, 2 $$;
create function app.returns_void() returns void language plpgsql as $$ begin end $$;
create function app.returns_trigger() returns trigger language plpgsql as $$ begin return null; end $$;
create function app.returns_event_trigger() returns event_trigger language plpgsql as $$ begin end $$;
create function app.takes_row(app.item) returns text language sql stable as $$ select $1.name $$;
create function app.takes_outside(other.colour, other.email, other.people) returns other.money_amount language sql as $$ select null::other.money_amount $$;
create function app.polymorphic(a anyelement, b anyarray, c anynonarray) returns anyelement language sql immutable as $$ select a $$;
create function app.compatible(a anycompatible, b anycompatiblerange) returns anycompatiblearray language sql immutable as $$ select array[a] $$;
create function app.type_with_modifier(a varchar(5)) returns numeric(3, 1) language sql as $$ select 1.5 $$;

-- One name, several functions.
create function app.overloaded() returns integer language sql as $$ select 0 $$;
create function app.overloaded(integer) returns integer language sql as $$ select 1 $$;
create function app.overloaded(text) returns integer language sql as $$ select 2 $$;
create function app.overloaded(integer, text) returns integer language sql as $$ select 3 $$;
create function app.overloaded(variadic integer[]) returns integer language sql as $$ select 4 $$;

-- Bodies.
create function app.with_dollars() returns text language sql as $body$ select $$a$$ || $x$b; $x$ || '$function$' $body$;
create function app.with_quotes() returns text language sql as 'select ''it''''s \ "x"'' -- ; comment';
create function app.with_lines() returns text language plpgsql as $$
-- ; a comment
declare
  t text := 'a
b';
begin
	/* tab; */
  return t || E'\n\\';

end;
$$;
create function app.cyrillic() returns text language sql as $$ select 'Привет, мир' $$;
create function app.refers_to_nothing_yet() returns integer language plpgsql as $$ begin return (select count(*) from app.not_there); end $$;

-- Bodies that are parsed: they depend on what they mention.
create function app.atomic_return(a integer, b integer default 2) returns integer language sql immutable return a + b;
create function app.atomic_block(a integer) returns setof app.item language sql stable
begin atomic
  select i.* from app.item as i where i.id = a and i.name <> 'it''s; --';
  select i.id, i.name, i.price from app.item as i order by i.price desc limit atomic_block.a;
end;
create function app.atomic_calls(a integer) returns integer language sql begin atomic select app.atomic_return(a, b => 3); end;
create function app.atomic_changes(a integer) returns integer language sql
begin atomic
  with gone as (delete from app.item where id = a returning id)
  insert into app.item as i (id, name) select gone.id, 'again' from gone
  on conflict (id) do update set name = excluded.name || i.name where i.id > 0 returning i.id;
end;
create function app.atomic_empty() returns void language sql begin atomic end;
create function app.atomic_default(a integer default app.atomic_return(1)) returns integer language sql return a;

-- A window function.
create function app.window_rank() returns bigint language internal window immutable as 'window_row_number';

-- A function with a support function.
create function app.supported(integer, integer) returns setof integer language internal immutable strict rows 99
support generate_series_int4_support as 'generate_series_int4';

-- Procedures.
create procedure app.do_nothing() language plpgsql as $$ begin end $$;
create procedure app.do_something(a integer, inout b text default 'x', variadic c integer[] default '{}')
language plpgsql security definer set search_path = '' as $$ begin commit; end $$;
create procedure app.with_out_argument(a integer, out b integer) language plpgsql as $$ begin b := a; end $$;
create procedure app.atomic_procedure(a integer) language sql
begin atomic
  insert into app.item (id) values (a);
  delete from app.item where id = a;
end;
create procedure app.overloaded(integer, integer) language sql as $$ select 1 $$;

-- Names.
create function app."Odd. ""function""; --"("Odd. ""argument""" integer) returns integer language sql as $$ select 1 $$;
create function app."select"("from" integer) returns integer language sql return "from";

-- A function whose argument is a view that calls another function of the schema.
create function app.priced(integer) returns numeric language sql stable as $$ select $1::numeric $$;
create view app.item_price as select id, app.priced(id) as price from app.item;
create function app.takes_view(app.item_price) returns numeric language sql stable return ($1).price;
create view app.item_price_again as select p.id, app.takes_view(p) as price from app.item_price as p;
