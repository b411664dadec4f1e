-- Rules of all events, with one action, several or none.
create schema if not exists app;

create table app.ruled (id integer, note text, "Odd" text);
create table app.rule_log (id integer, what text, at timestamptz default now());
create view app.ruled_view as select id, note from app.ruled where id > 0;

create rule log_insert as on insert to app.ruled do also
  insert into app.rule_log (id, what) values (new.id, 'insert; it''s');
create rule log_update as on update to app.ruled where old.note is distinct from new.note do also (
  insert into app.rule_log (id, what) values (old.id, 'before; it''s');
  insert into app.rule_log (id, what) values (new.id, 'after')
);
create rule tell as on update to app.ruled do also (
  update app.rule_log set at = default where false;
  notify ruled, 'changed; yes'
);
create rule no_delete as on delete to app.ruled where old.id = 0 do instead nothing;
create rule log_delete as on delete to app.ruled do also
  update app.rule_log set what = 'deleted' where rule_log.id = old.id;
create rule is_off as on update to app.ruled do also nothing;
alter table app.ruled disable rule is_off;
create rule is_replica as on insert to app.ruled do also nothing;
alter table app.ruled enable replica rule is_replica;
create rule is_always as on insert to app.ruled do also nothing;
alter table app.ruled enable always rule is_always;
create rule "Odd. ""rule""; --" as on insert to app.ruled where new."Odd" = 'x' do also
  delete from app.rule_log where what = new."Odd";

create rule view_insert as on insert to app.ruled_view do instead
  insert into app.ruled (id, note) values (new.id, new.note) returning ruled.id, ruled.note;
create rule view_update as on update to app.ruled_view do instead
  update app.ruled set note = new.note where id = old.id;
create rule view_delete as on delete to app.ruled_view do instead
  delete from app.ruled where id = old.id;

-- With a query, a common table expression and another table.
create rule with_query as on insert to app.rule_log where new.what = 'many' do instead
  insert into app.ruled (id, note) with n as (select x from generate_series(1, 3) as g (x)) select n.x, new.what from n;
create rule renamed_before as on delete to app.rule_log do instead nothing;
alter rule renamed_before on app.rule_log rename to renamed_after;
