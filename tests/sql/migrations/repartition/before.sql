create schema app;

create table app.devices (id int primary key, name text not null);
create table app.readings (
  device_id int not null references app.devices,
  taken_at timestamptz not null,
  value double precision,
  primary key (device_id, taken_at)
) partition by range (taken_at);
create table app.readings_2026_01 partition of app.readings for values from ('2026-01-01T00:00:00Z') to ('2026-02-01T00:00:00Z');
create table app.readings_2026_02 partition of app.readings for values from ('2026-02-01T00:00:00Z') to ('2026-03-01T00:00:00Z');
create table app.readings_2026_03 partition of app.readings for values from ('2026-03-01T00:00:00Z') to ('2026-04-01T00:00:00Z') with (fillfactor = 90);
create index readings_by_time on app.readings (taken_at desc);
alter table app.readings_2026_01 add constraint sane check (value > -1000);
alter table app.readings enable row level security;
create policy "Everybody reads" on app.readings for select using (true);
grant select on app.readings to authenticated;
create view app.latest as
select distinct on (r.device_id) d.name, r.taken_at, r.value
from app.readings as r join app.devices as d on d.id = r.device_id order by r.device_id, r.taken_at desc;

insert into app.devices select n, 'Device ' || n from generate_series(1, 4) as n;
insert into app.readings
select 1 + n % 4, timestamptz '2026-01-01T00:00:00Z' + n * interval '17 hours', n / 3.0 from generate_series(0, 120) as n;
