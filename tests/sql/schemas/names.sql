-- Names: quotes, dots, spaces, upper case, Cyrillic, reserved words, 63 bytes; of everything that has one.
create schema if not exists app;

create type app."Тип; ""нет""" as enum ('да', 'нет');
create domain app."Odd. Domain" as text constraint "Odd. Check" check (value <> 'x');
create type app."Odd. Composite" as ("a.b" text, "C D" app."Тип; ""нет""", "select" integer);
create sequence app."Odd. Sequence" start 5;
create function app."Odd. Function"(app."Odd. Composite", "Odd. Argument" app."Odd. Domain" default 'y') returns app."Тип; ""нет"""
language sql immutable as $$ select 'да'::app."Тип; ""нет""" $$;
create function app."Odd. Trigger Function"() returns trigger language plpgsql as $$ begin return new; end $$;

create table app."Odd. ""Table""; --" (
  "ID" integer generated always as identity constraint "Odd. Key" primary key,
  "select" text collate "C" default 'it''s',
  "имя" varchar(10) not null,
  "a.b" app."Тип; ""нет""" default 'да',
  " spaces " app."Odd. Domain",
  "tab	and
newline" integer default nextval('app."Odd. Sequence"'),
  "'single'" app."Odd. Composite"[],
  "%I %s %1$s" integer,
  "$1" integer,
  "\back\slash" integer,
  "generated" text generated always as ("имя" || "select") stored,
  constraint "Odd. Check" check ("$1" > "%I %s %1$s"),
  constraint "Odd. Unique" unique ("select", "имя"),
  constraint "Odd. Exclusion" exclude using btree ("\back\slash" with =)
);
create table app."from" (
  "where" integer references app."Odd. ""Table""; --" ("ID"),
  "group" text,
  "order" text,
  constraint "Odd. Reference" foreign key ("group", "order") references app."Odd. ""Table""; --" ("select", "имя")
);
create index "Odd. Index" on app."Odd. ""Table""; --" ("имя", (app."Odd. Function"(("'single'")[1])) desc) where "$1" > 0;
create trigger "Odd. Trigger" before update of "a.b", "имя" on app."Odd. ""Table""; --"
  for each row when (new."имя" <> old."имя") execute function app."Odd. Trigger Function"('%I', '%s');
create rule "Odd. Rule" as on insert to app."from" do also nothing;
create policy "Odd. Policy" on app."from" to "Odd Role" using ("where" > 0);
create statistics app."Odd. Statistics" on "имя", "select" from app."Odd. ""Table""; --";
create view app."Odd. View" as select "имя" as "Имя", "tab	and
newline", "%I %s %1$s" as "%L" from app."Odd. ""Table""; --";
create materialized view app."Odd. Materialized" as select "where" as "Where" from app."from";
create unique index "%I" on app."Odd. Materialized" ("Where");
alter publication "Odd. Publication" add table app."Odd. ""Table""; --" ("ID", "a.b") where ("ID" > 0);
grant select ("имя", "a.b") on app."Odd. ""Table""; --" to "Odd Role";
comment on column app."Odd. ""Table""; --"."%I %s %1$s" is '%I %s %1$s';

-- 63 bytes, in Latin and in Cyrillic, and what Postgres makes of them for names that it chooses.
create table app.a_table_with_a_name_of_sixty_three_bytes_which_is_all_there_may (
  a_column_with_a_name_of_sixty_three_bytes_which_is_all_there_is serial primary key,
  b_column_with_a_name_of_sixty_three_bytes_which_is_all_there_is text unique check (b_column_with_a_name_of_sixty_three_bytes_which_is_all_there_is <> '')
);
create table app."таблица_с_именем_в_шестьдесят_т" (
  "столбец_с_именем_в_шестьдесят_т" serial primary key,
  "ссылка" integer references app."таблица_с_именем_в_шестьдесят_т"
);
create index on app."таблица_с_именем_в_шестьдесят_т" (("столбец_с_именем_в_шестьдесят_т" + 1));

-- Names that other kinds of object have too.
create table app.twin (twin integer constraint twin check (twin > 0));
create function app.twin() returns integer language sql as $$ select 1 $$;
create trigger twin before insert on app.twin for each row execute function app."Odd. Trigger Function"();
create policy twin on app.twin using (twin > 0);
create rule twin as on delete to app.twin do also nothing;
create statistics app.twin on twin, (twin + 1) from app.twin;
