-- Aggregates: plain, ordered-set, hypothetical, moving, parallel.
create schema if not exists app;

create table app.numbers (number integer);

create function app.add_two(integer, integer) returns integer language sql immutable as $$ select coalesce($1, 0) + coalesce($2, 0) $$;
create function app.take_two(integer, integer) returns integer language sql immutable as $$ select $1 - $2 $$;
create function app.final_text(integer) returns text language sql immutable as $$ select $1::text $$;
create function app.final_extra(integer, integer) returns text language sql immutable as $$ select $1::text $$;
create function app.step_two(integer, integer, integer) returns integer language sql immutable as $$ select $1 + $2 * $3 $$;
create function app.collect(integer[], variadic integer[]) returns integer[] language sql immutable as $$ select $1 || $2 $$;
create function app.final_state(anyarray) returns anyarray language sql immutable as $$ select $1 $$;
create function app.keep(anyarray, anyelement) returns anyarray language sql immutable as $$ select $1 || $2 $$;

create aggregate app.plain_sum(integer) (sfunc = app.add_two, stype = integer);
create aggregate app.started_sum(amount integer) (sfunc = app.add_two, stype = integer, initcond = '100');
create aggregate app.all_options(integer) (
  sfunc = app.add_two, stype = integer, sspace = 128,
  finalfunc = app.final_extra, finalfunc_extra, finalfunc_modify = read_write,
  combinefunc = app.add_two, initcond = '0',
  msfunc = app.add_two, minvfunc = app.take_two, mstype = integer, msspace = 64,
  mfinalfunc = app.final_extra, mfinalfunc_extra, mfinalfunc_modify = shareable, minitcond = '5',
  parallel = safe
);
create aggregate app.of_two(a integer, b integer) (sfunc = app.step_two, stype = integer, parallel = restricted);
create aggregate app.of_many(variadic numbers integer[]) (sfunc = app.collect, stype = integer[], initcond = '{}');
create aggregate app.of_rows(*) (sfunc = int8inc, stype = bigint, initcond = '0');
create aggregate app.smallest(integer) (sfunc = int4smaller, stype = integer, sortop = operator(pg_catalog.<), combinefunc = int4smaller);
create aggregate app.of_any(anyelement) (sfunc = app.keep, stype = anyarray, finalfunc = app.final_state, initcond = '{}');
create aggregate app.quoted_start(text) (sfunc = textcat, stype = text, initcond = 'it''s; "x" \ {}');
create aggregate app.internal_state(numeric) (
  sfunc = numeric_avg_accum, stype = internal, sspace = 128, finalfunc = numeric_avg,
  combinefunc = numeric_avg_combine, serialfunc = numeric_avg_serialize, deserialfunc = numeric_avg_deserialize,
  msfunc = numeric_avg_accum, minvfunc = numeric_accum_inv, mstype = internal, msspace = 128, mfinalfunc = numeric_avg,
  parallel = safe
);
create aggregate app.percentile(double precision order by double precision) (
  sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_cont_float8_final, finalfunc_modify = read_write
);
create aggregate app.most_frequent(order by anyelement) (
  sfunc = ordered_set_transition, stype = internal, finalfunc = mode_final, finalfunc_extra, finalfunc_modify = shareable
);
create aggregate app.hypothetical(variadic "any" order by variadic "any") (
  sfunc = ordered_set_transition_multi, stype = internal, finalfunc = rank_final, finalfunc_extra, hypothetical
);
create aggregate app."Odd. ""aggregate""; --"("Odd. ""argument""" integer) (sfunc = app.add_two, stype = integer);
create aggregate app.plain_sum(bigint) (sfunc = int8pl, stype = bigint, initcond = '0');

-- Used by a view and a function; of another schema's type.
create view app.sums as
select app.plain_sum(n.number) as total, app.percentile(0.5) within group (order by n.number) as middle from app.numbers as n;
create function app.sum_of_all() returns integer language sql stable return (select app.plain_sum(g.x) from generate_series(1, 3) as g (x));
create aggregate app.colours(other.colour) (sfunc = array_append, stype = other.colour[], initcond = '{red}');
