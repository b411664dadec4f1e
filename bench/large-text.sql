-- A table of `bench.megabytes` MB of text in the form of `copy`, the same at every run: rows of 1 kB, half a kilobyte of words, which
-- gzip makes a third of, and as much of what it makes little of: uuids, numbers, times, JSON.

create temporary table word as
select n as number, (array['ba', 'ce', 'di', 'fo', 'gu', 'ka', 'le', 'mi', 'no', 'pu', 'ra', 'se', 'ti', 'vo', 'wu', 'za'])[1 + n % 16]
  || (array['lan', 'mer', 'nis', 'pon', 'run', 'sta', 'ten', 'vil', 'x', ''])[1 + n / 16 % 10] || (array['', 'a', 'ed', 'ing', 's'])[1 + n / 160 % 5] as word
from generate_series(0, 799) as n;

-- Words that are seldom and words that are frequent, as in a language.
create temporary table phrase as
select p as number, string_agg(w.word, ' ' order by i.i) as phrase
from generate_series(0, 65535) as p, generate_series(1, 22) as i
join lateral (select abs(hashint8(p * 64 + i.i)) / 2147483648.0 as at) as r on true
join word as w on w.number = floor(800 * r.at * r.at * r.at)::int
group by p;
create unique index on phrase (number);
analyze phrase;

create table public.large (
  id bigint primary key,
  owner_id uuid not null,
  email text not null,
  title text,
  body text not null,
  amount numeric(12, 2) not null,
  settings jsonb not null,
  created_at timestamptz not null,
  token text not null
);
insert into public.large
select n, md5('owner ' || n)::uuid, format('person.%s@example.com', n), case when n % 5 <> 0 then initcap(substr(a.phrase, 1, 40)) end,
  concat_ws('. ', a.phrase, b.phrase, c.phrase, d.phrase), (hashint8(n)::bigint % 1000000000) / 100.0,
  jsonb_build_object('theme', case n % 3 when 0 then 'dark' else 'light' end, 'goal', n % 400 / 4.0, 'key', md5('key ' || n)),
  timestamptz '2024-01-01 00:00+00' + n * interval '17 seconds', md5('token ' || n) || md5('again ' || n)
from generate_series(1, current_setting('bench.megabytes')::bigint * 1220) as n
join phrase as a on a.number = hashint8(n) & 65535
join phrase as b on b.number = hashint8(n + 1000000007) & 65535
join phrase as c on c.number = hashint8(n + 2000000011) & 65535
join phrase as d on d.number = hashint8(n + 3000000019) & 65535
order by n;

alter table public.large owner to postgres;
drop table word, phrase;
vacuum (analyze) public.large;
