import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { backUp } from "../support/backup.ts";
import { createApps } from "../support/create-apps.ts";
import { difference } from "../support/difference.ts";
import { freshApp } from "../support/fresh-app.ts";
import { planRollback, rollBack } from "../support/rollback.ts";
import { type Connections, schemaState } from "../support/schema-state.ts";
import { tableRows } from "../support/table-rows.ts";

/** A change, and what the product makes of it: the drift of each object that was changed directly. */
type Change = {
  name: string;
  change: string;
  drift: string[];
  /** Whether rows that are kept cannot have their old values again. */
  losesValues?: boolean;
  /** Why rows cannot be kept at all. */
  refusal?: RegExp;
};

const renamed: Change[] = [
  ["table", "alter table app.people rename to persons", "table app.people"],
  ["column", "alter table app.people rename column score to points", "column app.people.score"],
  ["enum value", "alter type app.mood rename value 'ok' to 'fair'", "enum_value app.mood.ok"],
  ["function", "alter function app.is_fine(int) rename to is_good", "function app.is_fine(score integer)"],
  ["procedure", "alter procedure app.do_nothing(int) rename to idle", "procedure app.do_nothing(IN how_often integer)"],
  ["index", "alter index app.people_by_score rename to by_score", "index app.people_by_score"],
  [
    "primary key",
    "alter table app.people rename constraint people_pkey to key",
    "constraint people_pkey on app.people",
  ],
  ["check", "alter table app.people rename constraint score_is_sane to sane", "constraint score_is_sane on app.people"],
  ["foreign key", "alter table app.people rename constraint in_team to team", "constraint in_team on app.people"],
  ["policy", `alter policy own on app.people rename to "Mine"`, "policy own on app.people"],
  ["trigger", "alter trigger stamp_people on app.people rename to stamp", "trigger stamp_people on app.people"],
  ["rule", "alter rule never on app.log rename to forever", "rule never on app.log"],
  ["view", "alter view app.fine rename to good", "view app.fine"],
  ["view's column", "alter view app.fine rename column is_fine to is_good", "column app.fine.is_fine"],
  ["materialized view", "alter materialized view app.moods rename to feelings", "materialized_view app.moods"],
  ["sequence", "alter sequence app.numbers rename to numerals", "sequence app.numbers"],
  ["identity's sequence", "alter sequence app.people_entry_seq rename to entries", "sequence app.people_entry_seq"],
  ["enum", "alter type app.mood rename to feeling", "enum app.mood"],
  ["domain", "alter domain app.email rename to address", "domain app.email"],
  [
    "domain's check",
    "alter domain app.email rename constraint has_at to at",
    "domain_constraint has_at on domain app.email",
  ],
  ["composite type", "alter type app.money rename to cash", "composite_type app.money"],
  ["attribute", "alter type app.money rename attribute currency to unit cascade", "attribute app.money.currency"],
  ["statistics", "alter statistics app.together rename to jointly", "statistics app.together"],
].map(([what, change, object]) => ({
  name: `a renamed ${what}`,
  change: change!,
  drift: [`renamed ${object}`],
}));

const moved: Change[] = [
  ["table", "alter table app.people set schema archive", "table app.people"],
  ["view", "alter view app.finest set schema archive", "view app.finest"],
  ["function", "alter function app.is_fine(int) set schema archive", "function app.is_fine(score integer)"],
  ["enum", "alter type app.mood set schema archive", "enum app.mood"],
  ["domain", "alter domain app.email set schema archive", "domain app.email"],
  ["composite type", "alter type app.money set schema archive", "composite_type app.money"],
  ["sequence", "alter sequence app.numbers set schema archive", "sequence app.numbers"],
].map(([what, change, object]) => ({
  name: `a ${what} that was moved to another schema`,
  change: change!,
  drift: [`renamed ${object}`],
}));

const swapped: Change[] = [
  {
    name: "two tables that swapped their names",
    change:
      "alter table app.people rename to x; alter table app.teams rename to people; alter table app.x rename to teams",
    drift: ["renamed table app.people", "renamed table app.teams"],
  },
  {
    name: "two columns that swapped their names",
    change: `alter table app.people rename column name to x; alter table app.people rename column note to name;
      alter table app.people rename column x to note`,
    drift: ["renamed column app.people.name", "renamed column app.people.note"],
  },
  {
    name: "three enum values that passed their names on",
    change: `alter type app.mood rename value 'sad' to 'x'; alter type app.mood rename value 'ok' to 'sad';
      alter type app.mood rename value 'happy' to 'ok'; alter type app.mood rename value 'x' to 'happy'`,
    drift: ["sad", "ok", "happy"].map((value) => `renamed enum_value app.mood.${value}`),
  },
  {
    name: "a view and a table that swapped their names",
    change: "alter view app.fine rename to x; alter table app.log rename to fine; alter view app.x rename to log",
    drift: ["renamed view app.fine", "renamed table app.log"],
  },
  {
    name: "two indexes that swapped their names",
    change: `alter index app.people_by_score rename to x; alter index app.teams_by_title rename to people_by_score;
      alter index app.x rename to teams_by_title`,
    drift: ["renamed index app.people_by_score", "renamed index app.teams_by_title"],
  },
  {
    name: "two policies, triggers and constraints that took over a name that was free",
    change: `alter table app.people rename constraint in_team to score_was_sane;
      alter table app.people rename constraint score_is_sane to in_team;
      alter table app.people rename constraint score_was_sane to score_is_sane`,
    drift: ["renamed constraint in_team on app.people", "renamed constraint score_is_sane on app.people"],
  },
];

const columns: Change[] = [
  {
    name: "an added column",
    change: "alter table app.people add age int default 18 not null",
    drift: ["new column app.people.age"],
  },
  {
    name: "a dropped column in the middle",
    change: "alter table app.people drop column note",
    drift: ["missing column app.people.note"],
  },
  {
    name: "a dropped last column",
    change: "alter table app.log drop column amount",
    drift: ["missing column app.log.amount"],
    refusal: /^its values cannot be told to rows: the table had no primary key/,
  },
  {
    name: "a dropped column with all that stands on it",
    change: "alter table app.people drop column score cascade",
    drift: [
      ...["missing column app.people.score", "missing view app.fine", "missing view app.finest"],
      ...["missing function app.everybody()", "missing policy own on app.people", "missing index app.people_by_score"],
      ...["missing constraint score_is_sane on app.people", "missing column app.people.twice"],
    ],
  },
  {
    name: "a column that was dropped and added again",
    change: "alter table app.people drop column note; alter table app.people add note varchar(20)",
    drift: [],
    losesValues: true,
  },
  {
    name: "a wider column",
    change: "alter table app.people alter number type numeric",
    drift: ["redefined column app.people.number"],
  },
  {
    name: "a retyped column that others stand on",
    change: `drop view app.finest cascade; drop view app.fine; drop policy leads on app.teams;
      drop trigger stamp_people on app.people; drop statistics app.together;
      alter table app.people alter name type varchar(60);
      create view app.fine as select p.id, p.name, true as is_fine from app.people as p`,
    drift: ["redefined column app.people.name", "missing view app.finest", "missing policy leads on app.teams"],
  },
  {
    name: "an enum column that became text",
    change: `drop policy own on app.people; drop materialized view app.moods;
      alter table app.people alter mood drop default, alter mood type text`,
    drift: [
      "redefined column app.people.mood",
      "missing materialized_view app.moods",
      "missing policy own on app.people",
    ],
  },
  {
    name: "a text column that became an enum",
    change: `alter table app.people alter note type app.size using case when note = 'even' then 'large'::app.size end`,
    drift: ["redefined column app.people.note"],
    losesValues: true,
  },
  {
    name: "a changed default",
    change: "alter table app.people alter name set default 'somebody'",
    drift: ["redefined column app.people.name"],
  },
  {
    name: "a dropped default",
    change: "alter table app.people alter number drop default",
    drift: ["redefined column app.people.number"],
  },
  {
    name: "an added default",
    change: "alter table app.people alter score set default 1",
    drift: ["redefined column app.people.score"],
  },
  {
    name: "a column that may not be null any more",
    change: "alter table app.people alter team_id set not null",
    drift: ["redefined column app.people.team_id"],
  },
  {
    name: "a column that may be null now",
    change: "alter table app.people alter name drop not null",
    drift: ["redefined column app.people.name"],
  },
  {
    name: "a dropped identity",
    change: "alter table app.people alter entry drop identity",
    drift: ["redefined column app.people.entry"],
  },
  {
    name: "an added identity",
    change: "alter table app.people alter id add generated always as identity",
    drift: ["redefined column app.people.id"],
  },
  {
    name: "an identity that is always generated now",
    change: "alter table app.people alter entry set generated always",
    drift: ["redefined column app.people.entry"],
  },
  {
    name: "a generated column that is an ordinary one now",
    change: "alter table app.people alter twice drop expression",
    drift: ["redefined column app.people.twice"],
  },
  {
    name: "a generated column that is generated otherwise",
    change:
      "alter table app.people drop column twice; alter table app.people add twice int generated always as (score * 3) stored",
    drift: ["redefined column app.people.twice"],
  },
  {
    name: "changed storage and statistics of a column",
    change: "alter table app.people alter name set storage external, alter score set statistics 500",
    drift: ["redefined column app.people.name", "redefined column app.people.score"],
  },
];

const others: Change[] = [
  {
    name: "an added table",
    change: "create table app.pets (id int primary key, owner int references app.people)",
    drift: ["new table app.pets"],
  },
  { name: "a dropped table", change: "drop table app.log", drift: ["missing table app.log"] },
  {
    name: "a dropped table that others refer to, and that refers to itself by way of them",
    change: "drop table app.teams cascade",
    drift: ["missing table app.teams", "missing constraint in_team on app.people"],
  },
  {
    name: "all tables dropped",
    change: "drop table app.people, app.teams, app.log cascade",
    drift: ["missing table app.people", "missing table app.teams", "missing table app.log"],
  },
  {
    name: "a table that was dropped and made again",
    change: "create table app.copy as select * from app.log; drop table app.log; alter table app.copy rename to log",
    drift: ["missing rule never on app.log"],
  },
  { name: "an added index", change: "create index by_note on app.people (note)", drift: ["new index app.by_note"] },
  { name: "a dropped index", change: "drop index app.teams_by_title", drift: ["missing index app.teams_by_title"] },
  {
    name: "an index with another condition",
    change: "drop index app.people_by_score; create index people_by_score on app.people (score desc)",
    drift: ["redefined index app.people_by_score"],
  },
  {
    name: "an added constraint",
    change: "alter table app.people add constraint note_is_short check (length(note) < 10)",
    drift: ["new constraint note_is_short on app.people"],
  },
  {
    name: "an added unique constraint",
    change: "alter table app.people add constraint names_differ unique (name)",
    drift: ["new constraint names_differ on app.people"],
  },
  {
    name: "a dropped check",
    change: "alter table app.people drop constraint score_is_sane",
    drift: ["missing constraint score_is_sane on app.people"],
  },
  {
    name: "a dropped unique constraint",
    change: "alter table app.people drop constraint one_per_email",
    drift: ["missing constraint one_per_email on app.people"],
  },
  {
    name: "a dropped primary key that a foreign key and the replica identity need",
    change: "alter table app.teams replica identity default; alter table app.teams drop constraint teams_pkey cascade",
    drift: ["missing constraint teams_pkey on app.teams", "missing constraint in_team on app.people"],
  },
  {
    name: "dropped foreign keys in a cycle",
    change: "alter table app.people drop constraint in_team; alter table app.teams drop constraint lead_is_known",
    drift: ["missing constraint in_team on app.people", "missing constraint lead_is_known on app.teams"],
  },
  {
    name: "a foreign key that is not deferrable any more",
    change: "alter table app.teams alter constraint lead_is_known not deferrable",
    drift: ["redefined constraint lead_is_known on app.teams"],
  },
  {
    name: "a foreign key with another action",
    change:
      "alter table app.people drop constraint in_team, add constraint in_team foreign key (team_id) references app.teams on delete cascade",
    drift: ["redefined constraint in_team on app.people"],
  },
  {
    name: "a constraint that is valid now",
    change: "alter table app.people validate constraint name_is_long",
    drift: ["redefined constraint name_is_long on app.people"],
  },
  {
    name: "a check with another condition",
    change: "alter table app.people drop constraint score_is_sane, add constraint score_is_sane check (score > -1)",
    drift: ["redefined constraint score_is_sane on app.people"],
  },
  {
    name: "an added policy",
    change: "create policy everybody on app.people for select using (true)",
    drift: ["new policy everybody on app.people"],
  },
  { name: "a dropped policy", change: "drop policy own on app.people", drift: ["missing policy own on app.people"] },
  {
    name: "a policy with another condition",
    change: "alter policy own on app.people using (true)",
    drift: ["redefined policy own on app.people"],
  },
  {
    name: "a policy for another role",
    change: "alter policy own on app.people to anon",
    drift: ["redefined policy own on app.people"],
  },
  {
    name: "an added trigger",
    change: "create trigger again after insert on app.people for each row execute function app.stamp()",
    drift: ["new trigger again on app.people"],
  },
  {
    name: "a dropped trigger",
    change: "drop trigger stamp_people on app.people",
    drift: ["missing trigger stamp_people on app.people"],
  },
  {
    name: "a disabled trigger",
    change: "alter table app.people disable trigger stamp_people",
    drift: ["redefined trigger stamp_people on app.people"],
  },
  {
    name: "a trigger that fires at other times",
    change:
      "create or replace trigger stamp_people before insert or update on app.people for each row execute function app.stamp()",
    drift: ["redefined trigger stamp_people on app.people"],
  },
  { name: "a dropped rule", change: "drop rule never on app.log", drift: ["missing rule never on app.log"] },
  {
    name: "an added view",
    change: "create view app.names as select name from app.people",
    drift: ["new view app.names"],
  },
  {
    name: "dropped views over views",
    change: "drop view app.fine cascade",
    drift: ["missing view app.fine", "missing view app.finest", "missing function app.everybody()"],
  },
  {
    name: "a view with another query",
    change: "create or replace view app.fine as select p.id, p.name, true as is_fine from app.people as p",
    drift: ["redefined view app.fine"],
  },
  {
    name: "a view with another column",
    change:
      "create or replace view app.fine as select p.id, p.name, app.is_fine(p.score) as is_fine, p.note from app.people as p",
    drift: ["redefined view app.fine"],
  },
  {
    name: "a view that runs as whoever asks",
    change: "alter view app.fine set (security_invoker = true)",
    drift: ["redefined view app.fine"],
  },
  {
    name: "a view that became a table",
    change: "drop view app.finest cascade; create table app.finest (id int, name text, is_fine boolean)",
    drift: ["missing view app.finest", "new table app.finest"],
  },
  {
    name: "an added materialized view",
    change: "create materialized view app.names as select name from app.people",
    drift: ["new materialized_view app.names"],
  },
  {
    name: "a dropped materialized view",
    change: "drop materialized view app.moods",
    drift: ["missing materialized_view app.moods"],
  },
  {
    name: "a materialized view with another query",
    change:
      "drop materialized view app.moods; create materialized view app.moods as select p.mood, 1::bigint as people from app.people as p",
    drift: ["redefined materialized_view app.moods"],
  },
  {
    name: "an added function",
    change: "create function app.more() returns int language sql as $$ select 1 $$",
    drift: ["new function app.more()"],
  },
  {
    name: "a dropped function",
    change: "drop function app.label(int, text)",
    drift: ["missing function app.label(id integer, prefix text)"],
  },
  {
    name: "a dropped function that policies and views call",
    change: "drop function app.is_fine(int) cascade",
    drift: ["missing function app.is_fine(score integer)", "missing policy own on app.people", "missing view app.fine"],
  },
  {
    name: "a function with another body",
    change:
      "create or replace function app.is_fine(score int) returns boolean language sql immutable as $$ select score > 10 $$",
    drift: ["redefined function app.is_fine(score integer)"],
  },
  {
    name: "a function whose body Postgres has parsed",
    change:
      "create or replace function app.is_fine(score int) returns boolean language sql immutable begin atomic select score > 10; end",
    drift: ["redefined function app.is_fine(score integer)"],
  },
  {
    name: "a function with other arguments",
    change:
      "drop function app.label(int, text); create function app.label(id bigint) returns text language sql as $$ select id::text $$",
    drift: ["missing function app.label(id integer, prefix text)", "new function app.label(id bigint)"],
  },
  {
    name: "a function whose arguments have other names and defaults",
    change:
      "drop function app.label(int, text); create function app.label(number int, before text) returns text language sql as $$ select before || number $$",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a function that returns something else",
    change:
      "drop function app.label(int, text); create function app.label(id int, prefix text default 'no. ') returns varchar language sql as $$ select prefix $$",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a function of another volatility",
    change: "alter function app.label(int, text) volatile",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a function that runs as its owner",
    change: "alter function app.label(int, text) security definer",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a function of another owner",
    change: "alter function app.label(int, text) owner to service_role",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a function with settings",
    change: "alter function app.label(int, text) set search_path = ''",
    drift: ["redefined function app.label(id integer, prefix text)"],
  },
  {
    name: "a procedure with another body",
    change: "create or replace procedure app.do_nothing(how_often int) language plpgsql as $$ begin perform 1; end $$",
    drift: ["redefined procedure app.do_nothing(IN how_often integer)"],
  },
  { name: "an added sequence", change: "create sequence app.more", drift: ["new sequence app.more"] },
  {
    name: "a dropped sequence that a default needs",
    change: "drop sequence app.numbers cascade",
    drift: ["missing sequence app.numbers", "redefined column app.people.number"],
  },
  {
    name: "a sequence with other steps",
    change: "alter sequence app.numbers increment by 10 cache 5",
    drift: ["redefined sequence app.numbers"],
  },
  {
    name: "a sequence that belongs to nobody any more",
    change: "alter sequence app.spare owned by none",
    drift: ["redefined sequence app.spare"],
  },
  {
    name: "an added domain and a column of it",
    change: "create domain app.url as text; alter table app.people add home app.url",
    drift: ["new domain app.url", "new column app.people.home"],
  },
  {
    name: "a dropped domain and its column",
    change: "drop domain app.percent cascade",
    drift: ["missing domain app.percent", "missing column app.teams.done"],
  },
  {
    name: "a domain with another default",
    change: "alter domain app.percent set default 1",
    drift: ["redefined domain app.percent"],
  },
  {
    name: "a domain that is never null",
    change: "alter domain app.percent set not null",
    drift: ["redefined domain app.percent"],
  },
  {
    name: "a domain without its check",
    change: "alter domain app.email drop constraint has_at",
    drift: ["missing domain_constraint has_at on domain app.email"],
  },
  {
    name: "a domain with one check more",
    change: "alter domain app.email add constraint is_short check (length(value) < 99)",
    drift: ["new domain_constraint is_short on domain app.email"],
  },
  {
    name: "an added composite type",
    change: "create type app.pair as (a int, b int)",
    drift: ["new composite_type app.pair"],
  },
  {
    name: "a dropped composite type and its column",
    change: "drop type app.money cascade",
    drift: ["missing composite_type app.money", "missing column app.people.worth"],
  },
  {
    name: "a composite type with one attribute more",
    change: "alter type app.money add attribute paid_on date cascade",
    drift: ["new attribute app.money.paid_on"],
  },
  {
    name: "a composite type with one attribute less",
    change: "alter type app.money drop attribute currency cascade",
    drift: ["missing attribute app.money.currency"],
    refusal: /^its values are gone from app.people.worth: restore/,
  },
  { name: "an added enum", change: "create type app.extra as enum ('a')", drift: ["new enum app.extra"] },
  { name: "a dropped enum", change: "drop type app.size", drift: ["missing enum app.size"] },
  {
    name: "a dropped enum and its column",
    change: "drop type app.mood cascade",
    drift: ["missing enum app.mood", "missing column app.people.mood"],
  },
  {
    name: "an enum value that no row uses",
    change: "alter type app.mood add value 'great' after 'ok'",
    drift: ["new enum_value app.mood.great"],
  },
  {
    name: "row security that is off",
    change: "alter table app.people disable row level security",
    drift: ["redefined table app.people"],
  },
  {
    name: "row security that is on",
    change: "alter table app.teams enable row level security",
    drift: ["redefined table app.teams"],
  },
  {
    name: "row security that is forced",
    change: "alter table app.people force row level security",
    drift: ["redefined table app.people"],
  },
  {
    name: "more privileges",
    change: "grant all on app.people to anon; grant execute on function app.is_fine(int) to anon",
    drift: ["redefined table app.people"],
  },
  {
    name: "fewer privileges",
    change: "revoke all on app.people from authenticated; revoke execute on function app.is_fine(int) from public",
    drift: ["redefined table app.people", "redefined function app.is_fine(score integer)"],
  },
  {
    name: "privileges that were taken from the owner",
    change: "revoke all on app.log from postgres",
    drift: ["redefined table app.log"],
  },
  {
    name: "privileges on columns",
    change: "revoke update (note) on app.people from anon; grant select (name) on app.people to anon",
    drift: ["redefined column app.people.note", "redefined column app.people.name"],
  },
  { name: "privileges on the schema", change: "grant usage on schema app to anon", drift: ["redefined schema app"] },
  {
    name: "default privileges",
    change: "alter default privileges in schema app grant select on tables to anon",
    drift: ["new default_privilege"],
  },
  {
    name: "comments",
    change:
      "comment on table app.people is null; comment on column app.people.score is 'New.'; comment on index app.people_by_score is 'New.'",
    drift: ["redefined table app.people", "redefined column app.people.score", "redefined index app.people_by_score"],
  },
  {
    name: "another owner of a table",
    change: "alter table app.people owner to service_role",
    drift: ["redefined table app.people"],
  },
  {
    name: "another owner of a type and a view",
    change: "alter type app.mood owner to service_role; alter view app.fine owner to service_role",
    drift: ["redefined enum app.mood", "redefined view app.fine"],
  },
  {
    name: "a table that is not published any more",
    change: "alter publication app_changes drop table app.teams",
    drift: ["missing publication_table"],
  },
  {
    name: "a table that is published",
    change: "alter publication app_changes add table app.people (id, name) where (id > 5)",
    drift: ["new publication_table"],
  },
  {
    name: "another replica identity",
    change: "alter table app.teams replica identity full",
    drift: ["redefined table app.teams"],
  },
  {
    name: "a table with storage parameters",
    change: "alter table app.people set (fillfactor = 70)",
    drift: ["redefined table app.people"],
  },
  { name: "an unlogged table", change: "alter table app.log set unlogged", drift: ["redefined table app.log"] },
  { name: "dropped statistics", change: "drop statistics app.together", drift: ["missing statistics app.together"] },
];

const everything = [...renamed, ...moved, ...swapped, ...columns, ...others];

const before = readFileSync(join(import.meta.dirname, "kinds", "before.sql"), "utf8");
const apps = createApps();
let connections: Connections;

beforeEach(async () => {
  connections = await apps.next();
});
afterAll(() => apps.drop());

type Remembered = { catalog: string[]; rows: string[] };

async function remember(first: number): Promise<Remembered> {
  return {
    catalog: await schemaState(connections, "app", first),
    rows: await tableRows(connections.admin, "app"),
  };
}

/** Backs a schema with one of everything up, changes it, and compares the product's drift with what is expected. */
async function change(text: string): Promise<{ first: number; was: Remembered }> {
  const first = await freshApp(connections);
  await connections.sql.unsafe(before).simple();
  const was = await remember(first);
  await backUp(connections.sql, "v1", { schema: "app", tables: "*" });
  await connections.sql.unsafe(text).simple();
  return { first, was };
}

async function drift(): Promise<string[]> {
  const rows = await connections.sql<{ line: string }[]>`
    select array_to_string(d.changes, ' and ') || ' ' || d.kind || ' ' || coalesce(d.object, d.now) as line
    from migration_guard.backups as b, migration_guard.schema_drift(b) as d`;
  return rows.map(({ line }) => line);
}

/** Leads back what is there now, and expects the schema to be what it was. */
async function leadBack(data: "keep" | "restore", was: Remembered, first: number): Promise<Remembered> {
  const { result } = await rollBack(connections.sql, "v1", { data, drop_new: "all" });
  expect(result, data).toMatchObject({ catalog: { identical: true } });
  const is = await remember(first);
  expect(difference(was.catalog, is.catalog), data).toEqual([]);
  return is;
}

test.for(everything)("$name is led back, and led back again after the same was done once more", async (
  { change: text, drift: expected, losesValues, refusal },
) => {
  const { first, was } = await change(text);
  const found = await drift();
  expect(expected.filter((line) => !found.some((other) => other.startsWith(line)))).toEqual([]);
  if (refusal) {
    const plan = await planRollback(connections.sql, "v1", { data: "keep", drop_new: "all" });
    expect(plan.cannot_undo.filter(({ blocks }) => blocks)).toEqual([
      { object: expect.any(String), why: expect.stringMatching(refusal), blocks: true },
    ]);
  } else {
    const kept = await leadBack("keep", was, first);
    if (!losesValues) expect(difference(was.rows, kept.rows), "keep").toEqual([]);
    await connections.sql.unsafe(text).simple();
  }
  const restored = await leadBack("restore", was, first);
  expect(difference(was.rows, restored.rows), "restore").toEqual([]);
});

test("all of what does not bar the rest is led back at once", async () => {
  const together = [...renamed, ...columns.slice(0, 2), ...others.filter(({ name }) => name.startsWith("an added"))]
    .map(({ change: text }) => text);
  const first = await freshApp(connections);
  await connections.sql.unsafe(before).simple();
  const was = await remember(first);
  await backUp(connections.sql, "v1", { schema: "app", tables: "*" });
  let done = 0;
  // What one has renamed the next does not find.
  for (const text of together) await connections.sql.unsafe(text).simple().then(() => done++, () => {});
  expect(done).toBeGreaterThan(together.length / 3);
  await rollBack(connections.sql, "v1", { data: "restore", drop_new: "all" });
  const is = await remember(first);
  expect(difference(was.catalog, is.catalog)).toEqual([]);
  expect(difference(was.rows, is.rows)).toEqual([]);
});

test("an enum value that rows use stays: the plan says how many they are, and nothing is accepted", async () => {
  await change("alter type app.mood add value 'great'");
  await connections.sql`update app.people set mood = 'great' where id <= 2`;
  const plan = await planRollback(connections.sql, "v1", { data: "keep" });
  expect(plan.possible).toBe(false);
  expect(plan.cannot_undo).toEqual([{
    object: expect.stringContaining("app.mood"),
    why: expect.stringMatching(/\b2 rows\b/),
    blocks: true,
  }]);
  await expect(
    connections
      .sql`select migration_guard.enqueue_rollback('v1', ${plan.plan_hash}, '{"data": "keep"}', false, 'test')`,
  ).rejects.toMatchObject({ code: "MG022" });
});

test("without a word new tables stay, and all else that is new goes", async () => {
  const { was, first } = await change(`
    create table app.pets (id int primary key, name text);
    insert into app.pets values (1, 'Rex');
    create view app.names as select name from app.people;
    create policy everybody on app.people for select using (true);
    create function app.more() returns int language sql as $$ select 1 $$`);
  const plan = await planRollback(connections.sql, "v1");
  expect(JSON.stringify(plan.new_objects)).toContain("app.pets");
  await rollBack(connections.sql, "v1");
  const changed = difference(was.catalog, await schemaState(connections, "app", first));
  expect(changed.filter((line) => line.startsWith("-") || !/pets/.test(line))).toEqual([]);
  expect(changed).not.toEqual([]);
  expect(await connections.sql`select * from app.pets`).toEqual([{ id: 1, name: "Rex" }]);
});
