-- Indexes of every method, with every option.
create schema if not exists app;

create function app.folded(text) returns text language sql immutable strict as $$ select lower($1) $$;

create table app.indexed (
  id integer not null,
  a integer not null,
  b text not null,
  c text collate other.numbered,
  d date,
  e jsonb,
  f tsvector,
  g point,
  h int4range,
  i text[],
  j inet,
  k timestamptz,
  l boolean
);

create index indexed_a on app.indexed (a);
create index indexed_order on app.indexed (a desc, b asc nulls first, d desc nulls last);
create index indexed_class on app.indexed (b text_pattern_ops, c varchar_pattern_ops);
create index indexed_collation on app.indexed (b collate "C" desc, c collate "POSIX", d);
create index indexed_collation_class on app.indexed (b collate "C" text_pattern_ops desc nulls last);
create unique index indexed_unique on app.indexed (id);
create unique index indexed_nulls on app.indexed (d) nulls not distinct;
create unique index indexed_include on app.indexed (a, id) include (b, d);
create index indexed_partial on app.indexed (a) where l and b <> 'it''s; --';
create unique index indexed_partial_unique on app.indexed (b) include (c) nulls not distinct with (fillfactor = 50) where d is not null;
create index indexed_expression on app.indexed ((a + 1), lower(b), (e ->> 'name') desc, app.folded(c));
create index indexed_function on app.indexed (app.folded(b));
create index indexed_case on app.indexed ((case when l then a else -a end)) where (e -> 'x') is not null;
create index indexed_options on app.indexed (a) with (fillfactor = 33, deduplicate_items = off);
create index indexed_hash on app.indexed using hash (b) with (fillfactor = 60);
create index indexed_gin on app.indexed using gin (e jsonb_path_ops, i) with (fastupdate = off, gin_pending_list_limit = 1024);
create index indexed_gin_expression on app.indexed using gin (to_tsvector('pg_catalog.simple', b), e);
create index indexed_gist on app.indexed using gist (g, h) with (buffering = on, fillfactor = 88);
create index indexed_gist_class on app.indexed using gist (f tsvector_ops (siglen = 100));
create index indexed_gist_include on app.indexed using gist (h) include (a);
create index indexed_spgist on app.indexed using spgist (g quad_point_ops) include (a);
create index indexed_spgist_inet on app.indexed using spgist (j) with (fillfactor = 70);
create index indexed_brin on app.indexed using brin (d, k timestamptz_minmax_multi_ops (values_per_range = 16)) with (pages_per_range = 16, autosummarize = on);
create index indexed_brin_bloom on app.indexed using brin (a int4_bloom_ops (n_distinct_per_range = 100, false_positive_rate = 0.05));
create index "Index of. ""odd"" name; --" on app.indexed (a, b);
create index indexed_twice on app.indexed (a);
create index indexed_changed on app.indexed (a) with (fillfactor = 40);
alter index app.indexed_changed reset (fillfactor);
alter index app.indexed_changed set (fillfactor = 45);

-- Statistics of an index's expressions.
alter index app.indexed_expression alter column 1 set statistics 100;
alter index app.indexed_expression alter column 3 set statistics 0;
alter index app.indexed_function alter column 1 set statistics 1000;

-- One that marks the order of rows, and one that marks their identity.
alter table app.indexed cluster on indexed_order;
alter table app.indexed replica identity using index indexed_unique;
