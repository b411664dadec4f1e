-- Extended statistics: kinds, columns and expressions, targets.
create schema if not exists app;

create table app.measured_things (a integer, b integer, c text, d date, "Odd. ""column""" text);

create statistics app.all_kinds on a, b from app.measured_things;
create statistics app.only_distinct (ndistinct) on a, b, c from app.measured_things;
create statistics app.only_dependencies (dependencies) on b, a from app.measured_things;
create statistics app.only_common (mcv) on c, d from app.measured_things;
create statistics app.two_kinds (mcv, ndistinct) on a, d from app.measured_things;
create statistics app.one_expression on (a + b) from app.measured_things;
create statistics app.expressions (dependencies, mcv) on (a % 10), (lower(c) || 'it''s; --'), d from app.measured_things;
create statistics app.all_with_expressions on a, (date_trunc('month', d::timestamp)) from app.measured_things;
create statistics app.with_target on a, c from app.measured_things;
alter statistics app.with_target set statistics 500;
create statistics app.never_gathered on b, c from app.measured_things;
alter statistics app.never_gathered set statistics 0;
create statistics app."Odd. ""statistics""; --" on a, "Odd. ""column""" from app.measured_things;
create statistics app.named_before on b, d from app.measured_things;
alter statistics app.named_before rename to named_after;

create materialized view app.measured_view as select a, b from app.measured_things;
create statistics app.of_view on a, b from app.measured_view;
create table app.measured_parts (a integer, b integer) partition by list (a);
create statistics app.of_parts on a, b from app.measured_parts;
