-- Types: enums, domains, composites, ranges.
create schema if not exists app;

-- Enums.
create type app.level as enum ('low', 'middle', 'high');
alter type app.level add value 'lowest' before 'low';
alter type app.level add value 'lower' before 'low';
alter type app.level add value 'highest';
alter type app.level add value 'between' after 'middle';
alter type app.level add value if not exists 'high';
alter type app.level rename value 'middle' to 'medium';
create type app.empty_enum as enum ();
create type app.odd_enum as enum ('', ' ', 'it''s; --', '"quoted"', 'back\slash', 'Привет', 'a.b', 'UPPER', 'upper',
  'sixty-three-bytes-are-the-most-that-a-label-of-an-enum-may-have');

-- Domains.
create domain app.plain_domain as text;
create domain app.positive as integer default 1 not null check (value > 0);
create domain app.many_checks as varchar(20) collate "C" default 'it''s'
  constraint not_empty check (value <> '')
  constraint "Odd. ""check""; --" check (value <> 'x; --' and value !~ '^\\')
  check (length(value) < 15);
alter domain app.many_checks add constraint only_new check (value <> 'old') not valid;
alter domain app.many_checks add constraint proven check (value <> 'older') not valid;
alter domain app.many_checks validate constraint proven;
create domain app.of_domain as app.positive check (value < 100);
create domain app.of_array as integer[] check (array_length(value, 1) = 3);
create domain app.of_modifier as numeric(5, 2) not null default 1.50;
create domain app.renamed as text constraint renamed_before check (value <> '');
alter domain app.renamed rename constraint renamed_before to renamed_after;
create domain app.null_default as text default null;
create domain app.of_enum as app.level default 'high' check (value >= 'low');
create function app.is_fine(text) returns boolean language sql immutable as $$ select $1 <> '' $$;
create domain app.by_function as text default current_user check (app.is_fine(value));

-- Composites.
create type app.nothing as ();
create type app.address as (
  street text collate "C",
  number integer,
  code char(5),
  tags varchar(10)[],
  "Odd. ""attribute""; --" numeric(10, 2)
);
create type app.changed as (a integer, b text, c date);
alter type app.changed drop attribute b, add attribute d numeric(3, 1), alter attribute a type bigint;
alter type app.changed rename attribute c to e;
create type app.nested as (home app.address, many app.address[], level app.level, amount app.positive);
create domain app.of_composite as app.address check ((value).number > 0);

-- Ranges.
create type app.text_range as range (subtype = text, collation = "C");
create type app.float_range as range (subtype = float8, subtype_diff = float8mi);
create function app.day_difference(date, date) returns float8 language sql immutable strict as $$ select ($1 - $2)::float8 $$;
create type app.day_range as range (subtype = date, subtype_opclass = date_ops, subtype_diff = app.day_difference, multirange_type_name = app.days);
create type app.level_range as range (subtype = app.level);
create type app."Odd. Range" as range (subtype = integer, multirange_type_name = app."Odd. Ranges");
create type app.minute_range as range (subtype = time);

-- With a canonical function, which needs the type as a shell first.
create type app.whole_range;
create function app.whole_range_canonical(app.whole_range) returns app.whole_range language internal immutable strict as 'int4range_canonical';
create type app.whole_range as range (subtype = integer, subtype_diff = int4range_subdiff, canonical = app.whole_range_canonical);

-- All of them in use.
create table app.typed_things (
  a app.level default 'medium',
  b app.positive,
  c app.many_checks[],
  d app.address,
  e app.day_range default '[2020-01-01,2020-02-01)',
  f app.days,
  g app.of_composite,
  h app.whole_range,
  i app.nested[],
  constraint level_is_known check (a in ('low', 'high') or (d).street <> '')
);
create function app.uses_types(app.level, app.address, app.days) returns app.positive language sql immutable as $$ select 1 $$;
