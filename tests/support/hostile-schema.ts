import { cut, ident, literal } from "./hostile-names.ts";

/** Gives names out, each once for everything that must not share one. */
export class Names {
  readonly #names: readonly string[];
  readonly #start: number;
  readonly #next = new Map<string, number>();

  readonly #step: number;

  /**
   * @param start Where in the list the first scope begins.
   * @param step How much later each of the others does.
   */
  constructor(names: readonly string[], start = 0, step = 0) {
    this.#names = names;
    this.#start = start;
    this.#step = step;
  }

  /** A name that nothing else in a scope has. */
  take(scope: string): string {
    const number = this.#next.get(scope) ?? 0;
    this.#next.set(scope, number + 1);
    const start = this.#start + [...this.#next.keys()].indexOf(scope) * this.#step;
    const name = this.#names[(start + number) % this.#names.length]!;
    const lap = Math.floor(number / this.#names.length);
    return lap === 0 ? name : cut(`${cut(name, 59)}${lap}`);
  }
}

type Table = {
  name: string;
  key: string;
  columns: { text: string; enum: string; domain: string; number: string; composite: string; generated: string };
  constraints: { key: string; check: string; unique: string; reference: string };
  index: string;
  trigger: string;
  policy: string;
  rule: string;
  statistics: string;
};

/** A schema whose every object has a name from a list, and what changes it. */
export type HostileSchema = {
  make: string[];
  /** Names everything otherwise, some with the names of others. */
  rename: string[];
  /** Drops some of everything, and alters the rest. */
  drop: string[];
};

export function hostileSchema(names: Names, schema: string, roles: string[], count: number): HostileSchema {
  const on = (name: string) => `${ident(schema)}.${ident(name)}`;
  const relation = () => names.take("relation");
  const make: string[] = [], rename: string[] = [], drop: string[] = [];
  const role = (n: number) => ident(roles[n % roles.length]!);
  const publication = names.take("publication");
  make.push(`create publication ${ident(publication)}`);

  const values = Array.from({ length: 20 * count }, () => names.take("enum value"));
  const enumName = relation();
  make.push(`create type ${on(enumName)} as enum (${values.map(literal).join(", ")})`);
  make.push(`comment on type ${on(enumName)} is ${literal(values.join(""))}`);
  const domain = relation(), domainCheck = names.take("domain constraint");
  make.push(`create domain ${on(domain)} as text default ${literal(values[0]!)}
    constraint ${ident(domainCheck)} check (value <> ${literal("never " + values[1])})`);
  const composite = relation();
  const attributes = Array.from({ length: 10 * count }, () => names.take("attribute"));
  make.push(`create type ${on(composite)} as (${attributes.map((name) => `${ident(name)} text`).join(", ")})`);
  const wide = relation(), wideColumns = Array.from({ length: 20 * count }, () => names.take("wide column"));
  make.push(
    `create table ${on(wide)} (${
      wideColumns.map((name) => `${ident(name)} text default ${literal(name)}`).join(", ")
    }, primary key (${ident(wideColumns[0]!)}))`,
  );
  make.push(`insert into ${on(wide)} default values`);
  rename.push(
    ...wideColumns.map((name) =>
      `alter table ${on(wide)} rename column ${ident(name)} to ${ident(cut(`${cut(name, 58)} was`))}`
    ),
  );
  drop.push(
    `alter table ${on(wide)} ${
      wideColumns.filter((_, i) => i % 3 === 1).map((name) => `drop column ${ident(name)}`).join(", ")
    }`,
  );
  const sequence = relation();
  make.push(`create sequence ${on(sequence)} start 7`);

  const functionName = names.take("function");
  const argument = [names.take("argument"), names.take("argument")] as const;
  make.push(
    `create function ${on(functionName)}(${ident(argument[0])} ${on(enumName)}, ${ident(argument[1])} text default ${
      literal(values[2]!)
    })
    returns text language sql immutable as $sql$ select format('%s', ${ident(argument[0])}) || ${
      ident(argument[1])
    } $sql$`,
  );
  const triggerFunction = names.take("function");
  make.push(
    `create function ${on(triggerFunction)}() returns trigger language plpgsql as $body$ begin return new; end $body$`,
  );
  const procedure = names.take("function");
  make.push(`create procedure ${on(procedure)}(inout ${ident(argument[0])} integer) language sql as 'select 1'`);
  const aggregate = names.take("function");
  make.push(
    `create aggregate ${on(aggregate)}(${
      ident(argument[0])
    } integer) (sfunc = int4pl, stype = integer, initcond = '0')`,
  );
  make.push(`grant execute on function ${on(functionName)} to ${role(0)} with grant option`);
  make.push(
    `alter default privileges in schema ${ident(schema)} grant select on tables to ${role(0)} with grant option`,
  );
  make.push(`alter default privileges in schema ${ident(schema)} grant execute on functions to ${role(1)}, ${role(2)}`);

  const tables: Table[] = Array.from({ length: count }, () => {
    const column = () => names.take("column");
    return {
      name: relation(),
      key: column(),
      columns: {
        text: column(),
        enum: column(),
        domain: column(),
        number: column(),
        composite: column(),
        generated: column(),
      },
      constraints: {
        key: relation(),
        check: names.take("constraint"),
        unique: relation(),
        reference: names.take("constraint"),
      },
      index: relation(),
      trigger: names.take("trigger"),
      policy: names.take("policy"),
      rule: names.take("rule"),
      statistics: names.take("statistics"),
    };
  });
  // A check must not have the name of a key of its table, whose scope is another.
  const check = (t: Table) =>
    [t.constraints.key, t.constraints.unique].includes(t.constraints.check)
      ? cut(`${cut(t.constraints.check, 61)}c`)
      : t.constraints.check;
  const reference = (t: Table) =>
    [t.constraints.key, t.constraints.unique, check(t)].includes(t.constraints.reference)
      ? cut(`${cut(t.constraints.reference, 61)}r`)
      : t.constraints.reference;

  tables.forEach((t, n) => {
    const c = Object.fromEntries(
      Object.entries(t.columns).map(([kind, name]) => [kind, ident(name)]),
    ) as Table["columns"];
    make.push(
      `create table ${on(t.name)} (
        ${ident(t.key)} integer generated ${n % 2 ? "always" : "by default"} as identity constraint ${
        ident(t.constraints.key)
      } primary key,
        ${c.text} text not null default ${literal(t.name)},
        ${c.enum} ${on(enumName)} default ${literal(values[n % values.length]!)},
        ${c.domain} ${on(domain)},
        ${c.number} integer,
        ${c.composite} ${on(composite)}[],
        ${c.generated} text generated always as (${c.text} || ${literal(t.key)}) stored,
        constraint ${ident(check(t))} check (${c.number} > 0 and ${c.text} <> ${literal(t.columns.number)}),
        constraint ${ident(t.constraints.unique)} unique (${c.text}, ${c.number}),
        constraint ${ident(reference(t))} foreign key (${c.number}) references ${on(tables[Math.max(0, n - 1)]!.name)}
      )`,
      `create index ${ident(t.index)} on ${on(t.name)} (lower(${c.text}), ${
        on(functionName)
      }(${c.enum}) desc) where ${c.number} > 1`,
      `create trigger ${ident(t.trigger)} before update of ${c.text} on ${on(t.name)} for each row
        when (old.${c.text} <> new.${c.text}) execute function ${on(triggerFunction)}(${literal(t.name)})`,
      `create policy ${ident(t.policy)} on ${on(t.name)} for select to ${role(n)}, ${role(n + 1)} using (${c.text} <> ${
        literal(t.policy)
      })`,
      `create rule ${ident(t.rule)} as on delete to ${on(t.name)} where old.${c.number} = 0 do instead nothing`,
      `create statistics ${on(t.statistics)} on ${c.text}, ${c.number} from ${on(t.name)}`,
      `comment on column ${on(t.name)}.${c.text} is ${literal(t.columns.text)}`,
      `comment on constraint ${ident(check(t))} on ${on(t.name)} is ${literal(check(t))}`,
      `comment on policy ${ident(t.policy)} on ${on(t.name)} is ${literal(t.policy)}`,
      `grant select (${c.text}, ${c.number}), update (${c.enum}) on ${on(t.name)} to ${role(n)}`,
      `grant insert, delete on ${on(t.name)} to ${role(n + 1)} with grant option`,
      `insert into ${on(t.name)} (${c.text}, ${c.enum}, ${c.domain}, ${c.number}, ${c.composite})
        select ${literal(t.name)} || n, (enum_range(null::${on(enumName)}))[1 + n % ${values.length}], ${
        literal(t.key)
      } || n, n,
          array[row(${attributes.map(() => literal(t.key)).join(", ")})::${on(composite)}]
        from generate_series(1, 5) as n`,
    );
    if (n % 3 === 0) make.push(`alter table ${on(t.name)} enable row level security`);
    if (n % 3 === 1) {
      make.push(`alter publication ${ident(publication)} add table ${on(t.name)} (${ident(t.key)}, ${c.text})`);
    }
    if (n % 3 === 2) make.push(`alter table ${on(t.name)} replica identity using index ${ident(t.constraints.key)}`);
    const waiting = (name: string) => cut(`${cut(name, 58)} was`);
    rename.push(
      ...[...Object.values(t.columns), t.key].map((name) =>
        `alter table ${on(t.name)} rename column ${ident(name)} to ${ident(waiting(name))}`
      ),
      // Each gets the name of the next one.
      ...Object.values(t.columns).map((name, i, all) =>
        `alter table ${on(t.name)} rename column ${ident(waiting(name))} to ${ident(all[(i + 1) % all.length]!)}`
      ),
      ...[check(t), reference(t), t.constraints.key, t.constraints.unique].map((name) =>
        `alter table ${on(t.name)} rename constraint ${ident(name)} to ${ident(waiting(name))}`
      ),
      `alter index ${on(t.index)} rename to ${ident(waiting(t.index))}`,
      `alter trigger ${ident(t.trigger)} on ${on(t.name)} rename to ${ident(waiting(t.trigger))}`,
      `alter policy ${ident(t.policy)} on ${on(t.name)} rename to ${ident(waiting(t.policy))}`,
      `alter rule ${ident(t.rule)} on ${on(t.name)} rename to ${ident(waiting(t.rule))}`,
      `alter statistics ${on(t.statistics)} rename to ${ident(waiting(t.statistics))}`,
      `alter table ${on(t.name)} rename to ${ident(waiting(t.name))}`,
    );
    const drops = [
      `drop policy ${ident(t.policy)} on ${on(t.name)}`,
      `alter table ${on(t.name)} drop constraint ${ident(check(t))}`,
      `alter table ${on(t.name)} drop constraint ${ident(reference(t))}`,
      `drop index ${on(t.index)}`,
      `drop trigger ${ident(t.trigger)} on ${on(t.name)}`,
      `drop rule ${ident(t.rule)} on ${on(t.name)}`,
      `drop statistics ${on(t.statistics)}`,
      `alter table ${on(t.name)} drop column ${c.text} cascade`,
      `alter table ${on(t.name)} alter column ${ident(t.key)} drop identity`,
      `alter table ${
        on(t.name)
      } alter column ${c.enum} drop default, alter column ${c.enum} type text using format('%s', ${c.enum})`,
      `alter table ${on(t.name)} alter column ${c.text} drop not null, alter column ${c.text} set default ${
        literal(t.policy)
      }`,
      `revoke all on ${on(t.name)} from ${role(n)}, ${role(n + 1)}`,
      `delete from ${on(t.name)} where ${c.number} = 5; insert into ${on(t.name)} (${c.text}) values (${
        literal(t.rule)
      })`,
      `drop table ${on(t.name)} cascade`,
      `alter table ${on(t.name)} add column ${ident(names.take("column"))} text default ${literal(t.trigger)}`,
    ];
    drop.push(...drops.filter((_, i) => i % 5 === n % 5 && !(n % 5 === 3 && i < 13)));
  });

  const root = relation(), partitions = [relation(), relation()] as const;
  const key = names.take("column"), other = names.take("column");
  make.push(
    `create table ${on(root)} (${ident(key)} integer, ${ident(other)} text, constraint ${
      ident(relation())
    } primary key (${ident(key)})) partition by range (${ident(key)})`,
    `create table ${on(partitions[0])} partition of ${on(root)} for values from (0) to (10)`,
    `create table ${on(partitions[1])} partition of ${on(root)} default`,
    `create index ${ident(relation())} on ${on(root)} (${ident(other)})`,
    `insert into ${on(root)} select n, ${literal(root)} || n from generate_series(1, 20) as n`,
  );
  const parent = relation(), heir = relation();
  make.push(
    `create table ${on(parent)} (${ident(key)} integer, ${ident(other)} text default ${literal(other)})`,
    `create table ${on(heir)} (${ident(names.take("column"))} integer) inherits (${on(parent)})`,
    `insert into ${on(heir)} values (1, ${literal(heir)}, 2)`,
  );
  const first = tables[0]!;
  const view = relation(), materialized = relation(), unique = relation();
  make.push(
    `create view ${on(view)} as select ${ident(first.columns.text)} as ${ident(first.columns.number)}, ${
      ident(first.key)
    } from ${on(first.name)}`,
    `create materialized view ${on(materialized)} as select * from ${on(view)}`,
    `create unique index ${ident(unique)} on ${on(materialized)} (${ident(first.key)})`,
    `alter table ${on(tables[1]!.name)} alter column ${ident(tables[1]!.columns.number)} set default nextval(${
      literal(on(sequence))
    })`,
    `alter sequence ${on(sequence)} owned by ${on(tables[1]!.name)}.${ident(tables[1]!.columns.number)}`,
  );
  const waiting = (name: string) => cut(`${cut(name, 58)} was`);
  rename.push(
    ...values.map((value) => `alter type ${on(enumName)} rename value ${literal(value)} to ${literal(waiting(value))}`),
    ...attributes.map((name) =>
      `alter type ${on(composite)} rename attribute ${ident(name)} to ${ident(waiting(name))}`
    ),
    `alter domain ${on(domain)} rename constraint ${ident(domainCheck)} to ${ident(waiting(domainCheck))}`,
    ...[["type", enumName], ["domain", domain], ["type", composite], ["sequence", sequence], ["view", view], [
      "index",
      unique,
    ]]
      .map(([kind, name]) => `alter ${kind} ${on(name!)} rename to ${ident(waiting(name!))}`),
    `alter materialized view ${on(materialized)} rename column ${ident(first.key)} to ${ident(waiting(first.key))}`,
    `alter materialized view ${on(materialized)} rename to ${ident(waiting(materialized))}`,
    ...[functionName, triggerFunction, procedure, aggregate].map((name) =>
      `alter routine ${on(name)} rename to ${ident(waiting(name))}`
    ),
    ...[root, ...partitions, parent, heir].map((name) => `alter table ${on(name)} rename to ${ident(waiting(name))}`),
  );
  drop.push(
    `drop materialized view if exists ${on(materialized)}`,
    `drop view if exists ${on(view)}`,
    `alter type ${on(enumName)} add value ${literal(names.take("enum value"))} before ${literal(values[1]!)}`,
    `alter domain ${on(domain)} drop constraint ${ident(domainCheck)}, alter domain ${on(domain)} set default 'x'`
      .replace(", alter", "; alter"),
    `alter sequence ${on(sequence)} increment by 3 owned by none`,
    `alter table ${on(root)} detach partition ${on(partitions[0])}`,
    `drop table ${on(heir)}`,
    `drop procedure ${on(procedure)}`,
    `drop aggregate ${on(aggregate)}(integer)`,
    `alter default privileges in schema ${ident(schema)} revoke all on tables from ${role(0)}`,
    `alter default privileges in schema ${ident(schema)} grant usage on types to ${role(1)} with grant option`,
    `alter default privileges in schema ${ident(schema)} grant select on sequences to ${role(2)}, ${role(3)}`,
    `revoke all on function ${on(functionName)} from ${role(0)}`,
    `create or replace function ${
      on(triggerFunction)
    }() returns trigger language plpgsql as $body$ begin return old; end $body$`,
  );
  return { make, rename, drop };
}
