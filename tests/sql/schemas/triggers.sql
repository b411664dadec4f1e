-- Triggers: times, events, levels, conditions, transition tables, arguments, states.
create schema if not exists app;

create table app.triggered (id integer primary key, a integer, b text, "Odd.Column" text);
create table app.triggering (id integer primary key);

create function app.trigger_function() returns trigger language plpgsql as $$ begin return new; end $$;
create function app."Trigger.Function"() returns trigger language plpgsql as $$ begin return null; end $$;

create trigger before_row before insert on app.triggered for each row execute function app.trigger_function();
create trigger before_statement before insert or update or delete on app.triggered for each statement execute function app.trigger_function();
create trigger after_row after insert or update or delete on app.triggered for each row execute function app.trigger_function();
create trigger on_truncate after truncate on app.triggered execute function app.trigger_function();
create trigger of_columns before update of b, a on app.triggered for each row execute function app.trigger_function();
create trigger of_odd_column after insert or update of "Odd.Column" or delete on app.triggered for each row execute function app.trigger_function();
create trigger on_condition before update on app.triggered for each row
  when (old.* is distinct from new.* and (new.a > 0 or new.b <> 'it''s; --')) execute function app.trigger_function();
create trigger on_insert_condition after insert on app.triggered for each row
  when (new."Odd.Column" is not null) execute function app."Trigger.Function"();
create trigger on_statement_condition after delete on app.triggered for each statement
  when (current_setting('app.quiet', true) is null) execute function app.trigger_function();
create trigger with_arguments before delete on app.triggered for each row
  execute function app.trigger_function('one', 'it''s', '', 'back\slash', '{"a": "b; c"}', 'two
lines', 42, name, $$dollar$$);
create trigger transition_insert after insert on app.triggered referencing new table as fresh
  for each statement execute function app.trigger_function();
create trigger transition_update after update on app.triggered referencing old table as "Old Rows" new table as new_rows
  for each statement execute function app.trigger_function();
create trigger transition_rows after delete on app.triggered referencing old table as gone
  for each row execute function app.trigger_function();
create trigger "Odd. ""name"" of; trigger --" before insert on app.triggered for each row execute function app.trigger_function();
create trigger elsewhere before update on app.triggered for each row execute function other.touch();
create trigger unredundant before update on app.triggered for each row execute function suppress_redundant_updates_trigger();

-- States.
create trigger is_off before insert on app.triggered for each row execute function app.trigger_function();
alter table app.triggered disable trigger is_off;
create trigger is_replica before insert on app.triggered for each row execute function app.trigger_function();
alter table app.triggered enable replica trigger is_replica;
create trigger is_always before insert on app.triggered for each row execute function app.trigger_function();
alter table app.triggered enable always trigger is_always;

-- Constraint triggers.
create constraint trigger checked after insert or update on app.triggered for each row execute function app.trigger_function();
create constraint trigger checked_later after insert on app.triggered deferrable for each row execute function app.trigger_function();
create constraint trigger checked_last after update of a on app.triggered
  from app.triggering deferrable initially deferred for each row when (new.a is not null) execute function app.trigger_function('x');
create constraint trigger checked_off after delete on app.triggered for each row execute function app.trigger_function();
alter table app.triggered disable trigger checked_off;

-- On a view, and with a name that another table's trigger has too.
create view app.triggered_view as select id, a from app.triggered;
create trigger instead_of instead of insert or update or delete on app.triggered_view for each row execute function app.trigger_function();
create trigger before_view before update on app.triggered_view for each statement execute function app.trigger_function();
create trigger before_row before insert on app.triggering for each row execute function app.trigger_function();

-- Renamed.
create trigger named_before before insert on app.triggering for each row execute function app.trigger_function();
alter trigger named_before on app.triggering rename to named_after;
