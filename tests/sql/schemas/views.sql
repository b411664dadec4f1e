-- Views and materialized views: options, defaults, dependencies, queries of every form.
create schema if not exists app;

create table app.sale (
  id integer primary key,
  customer text not null,
  amount numeric(10, 2) default 0,
  day date,
  extra jsonb
);
create table app.refund (sale_id integer references app.sale, amount numeric);

create view app.simple_view as select id, customer from app.sale;
create view app.named_columns (a, "B", "Odd. ""name""") as select id, customer, day from app.sale;
create view app.checked_view with (check_option = cascaded) as select * from app.sale where amount > 0;
create view app.checked_local as select * from app.checked_view where id > 0 with local check option;
create view app.barrier with (security_barrier = true) as select * from app.sale;
create view app.invoker with (security_invoker = true, security_barrier = false) as select * from app.sale;
create view app.all_options with (security_barrier, security_invoker = on, check_option = local) as select id from app.sale where id > 3;
create view app.view_without_columns as select from app.sale;
create view app.no_table as select 1 as one, 'it''s; --'::text as text, null::integer as nothing, E'a\nb\\' as lines;

-- Defaults of a view's columns.
create view app.with_defaults as select id, customer, amount from app.sale;
alter view app.with_defaults alter column customer set default 'it''s me';
alter view app.with_defaults alter column amount set default 9.50;

-- A column of a type with modifiers, and a collation.
create view app.typed as
select customer::varchar(5) as short, amount::numeric(5, 1) as rounded, day::timestamp(0) as moment,
  customer collate "C" as sorted, array[customer]::varchar(3)[] as list
from app.sale;

-- Star is what it was; a view on a view; a column that got another name later.
create view app.star as select * from app.sale;
alter table app.sale add column later text;
alter table app.sale rename column extra to document;
create view app.on_star as select star.*, star as whole from app.star where star.extra is not null;
alter view app.on_star rename column customer to client;

-- It groups by the primary key: it depends on the constraint.
create view app.grouped as
select s.id, s.customer, s.amount - coalesce(sum(r.amount), 0) as rest
from app.sale as s left join app.refund as r on r.sale_id = s.id
group by s.id;

create recursive view app.counting (n) as values (1) union all select n + 1 from counting where n < 10;

-- Queries of every form.
create view app.forms as
with recursive w (id, up) as materialized (
  select id, 0 from app.sale where id = 1
  union
  select s.id, w.up + 1 from app.sale as s join w on s.id = w.id + 1
) search breadth first by id set visited cycle id set is_cycle using way,
  n as not materialized (select * from w)
select distinct on (s.id) s.id,
  count(*) over win as windowed,
  sum(s.amount) filter (where s.amount > 0) over (partition by s.customer order by s.day rows between 2 preceding and current row exclude ties) as filtered,
  first_value(s.customer) over (win range between unbounded preceding and unbounded following) as first,
  s.day between date '2020-01-01' and date '2021-01-01' as inside,
  s.customer like 'a\_%' escape '\' or s.customer ilike '%b' or s.customer similar to '(a|b)%' as alike,
  extract(year from s.day) as year, s.day at time zone 'utc' as utc, overlay(s.customer placing 'x' from 1 for 1) as overlaid,
  position('a' in s.customer) as place, trim(both 'x' from s.customer) as trimmed, substring(s.customer from 2 for 3) as part,
  coalesce(nullif(s.customer, ''), 'none') as named, greatest(s.id, 1) as most, cast(s.id as text) as cast_id,
  case s.id when 1 then 'one' else 'many' end as simple_case,
  row(s.id, s.customer) is not null as pair, row(1, 2) < row(2, 1) as compared, array[[1, 2], [3, 4]] as matrix, array(select 1) as subarray,
  (s.document -> 'a' ->> 'b') as inner_value, s.document['a']['b'] as subscript, (array[1, 2, 3])[1:2] as slice,
  exists (select from app.refund where sale_id = s.id) as refunded, s.id = any (select sale_id from app.refund) as any_of, s.id <> all ('{1,2}') as none_of,
  grouping_sets.total, x.n as lateral_n, f.ordinality, xmlelement(name "Odd", xmlattributes(s.id as "a"), 'text') as an_element,
  operator_call.is_equal
from app.sale as s
cross join lateral (select count(*) as n from app.refund as r where r.sale_id = s.id) as x
left join (select customer, day, sum(amount) as total from app.sale group by grouping sets ((customer, day), rollup (customer), cube (day), ())) as grouping_sets using (customer)
join app.refund as joined (sale_id, refund_amount) on joined.sale_id = s.id
full join n on n.id = s.id
cross join unnest(array['a', 'b'], array[1, 2]) with ordinality as f (letter, number, ordinality)
cross join lateral (select s.id operator(pg_catalog.=) 1 as is_equal) as operator_call
window win as (partition by s.customer order by s.day desc nulls last)
order by s.id, s.customer collate "C" desc;
create view app.combined as
(select id, customer from app.sale where id < 3 order by id limit 2 offset 1)
union all (select id, customer from app.sale intersect select id, customer from app.sale)
except all select sale_id, null from app.refund
order by 1 fetch first 5 rows with ties;
create view app.locked as select id from app.sale tablesample bernoulli (10) repeatable (1) for no key update of sale skip locked;
create view app.joined_using as
select * from app.sale as s join (select sale_id as id, amount as refund from app.refund) as r using (id) as both_of_them;
create view app.typed_function as
select t.* from json_to_record('{"a": 1}') as t (a integer, b text)
union all select x.a, x.b from rows from (generate_series(1, 2), json_to_record('{}') as (b text)) as x (a, b);
create view app.from_xml as
select x.* from xmltable('/a/b' passing ('<a><b>1</b></a>'::xml) columns id integer path '.' default 5 not null, place for ordinality) as x;

-- A function and a view that need each other.
create function app.sale_count() returns bigint language sql stable as $$ select 0::bigint $$;
create view app.counted_sales as select s.id, app.sale_count() as count from app.sale as s;
create or replace function app.sale_count() returns bigint language sql stable begin atomic select count(*) from app.counted_sales; end;

-- Materialized views.
create materialized view app.filled as select customer, sum(amount) as total from app.sale group by customer;
create materialized view app.unfilled as select id, customer from app.sale with no data;
create materialized view app.with_storage with (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false) as
select id, customer, document from app.sale;
create unique index filled_customer on app.filled (customer);
create index filled_total on app.filled (total desc, lower(customer)) where total > 0;
alter index app.filled_total alter column 2 set statistics 9;
alter materialized view app.filled cluster on filled_customer;
alter materialized view app.with_storage
  alter column customer set statistics 77,
  alter column customer set (n_distinct = 5),
  alter column document set storage external,
  alter column customer set compression pglz;
create materialized view app.on_unfilled as select count(*) as n from app.unfilled with no data;
create materialized view app.on_filled (of_all) as select sum(total) from app.filled;
create view app.on_materialized as select * from app.filled;
create materialized view app.grouped_again as select s.id, s.customer, s.later from app.sale as s group by s.id;

-- A type that is a view's row, and a view that has one.
create table app.view_holder (held app.simple_view);
create view app.with_row as select s as whole, (s).customer from app.simple_view as s;
