-- Membership of publications, which themselves are no part of a schema.
create schema if not exists app;

create table app.published (id integer primary key, a text, b text, "Odd. ""column""" text);
create table app.published_rows (id integer primary key, kind text);
alter table app.published_rows replica identity full;
create table app.published_both (id integer primary key, a text, secret text);
create table app.published_twice (id integer primary key);
create table app.published_parts (id integer primary key) partition by range (id);
create table app.published_part partition of app.published_parts for values from (0) to (10);
create table app.not_published (id integer);

alter publication app_changes add table app.published (id, "Odd. ""column""", b);
alter publication app_changes add table app.published_rows where (kind <> 'it''s; --' and id > 0);
alter publication app_changes add table app.published_both (id, a) where (id between 1 and 100);
alter publication app_changes add table app.published_twice;
alter publication "Odd. Publication" add table app.published_twice where (id = 1), app.published_parts;
alter publication app_everything add tables in schema app;
alter publication app_everything add table app.published_twice;
