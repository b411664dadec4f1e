import { generateIdentity, identityToRecipient } from "age-encryption";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { freePort } from "../../local/edge-runtime.ts";
import { jwks, jwtSecret, serviceRoleKey, signToken, webhookSecret } from "../../local/keys.ts";
import { startStack } from "../../local/stack.ts";
import { caller, type CallOptions, startApi, test } from "../support/api.ts";
import { createOwnServer, ownDatabase } from "../support/own-server.ts";

const keys = {
  default: "sb_secret_MARKED_of_the_admin_0123456789",
  night_shift: "sb_secret_MARKED_of_the_operator_0123456789",
};
const stray = "sb_secret_MARKED_stray_0123456789";
const token = await signToken({ role: "service_role", exp: Math.floor(Date.now() / 1000) + 3600 });
const expired = await signToken({ role: "service_role", exp: 1 });
const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);
const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

/** Everything that is written down somewhere, while every operation is asked for with secrets that can be found again. */
async function startWithEverySink(onTestFinished: (end: () => Promise<void>) => void) {
  const sinks = { functionLog: "", databaseLog: "", activity: "", errors: "" };
  const server = await createOwnServer((text) => void (sinks.databaseLog += text), {
    shared_preload_libraries: "pg_stat_statements",
    "pg_stat_statements.track": "all",
  });
  onTestFinished(server.remove);
  const admin = server.open("supabase_admin");
  await admin.unsafe(`
    create extension pg_stat_statements schema extensions;
    create table public.people (id int primary key, email text, phone text);
    alter table public.people owner to postgres;
    insert into public.people select i, 'VALUE-' || md5(i::text), 'PHONE-' || md5(i::text) from generate_series(1, 300) as i`)
    .simple();
  // A session shows the last that was asked of it.
  await admin`select 1`;

  const receiver = createServer((_request, response) => void response.end()).listen(0, "127.0.0.1");
  await once(receiver, "listening");
  const receiverUrl = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  const hook = `${receiverUrl}/MARKED-hook?secret=MARKED-of-the-hook`;
  // It answers whatever is asked, and so anybody.
  const offsite = { endpoint: receiverUrl, region: "auto", bucket: "offsite", access_key_id: "MARKED-id" };
  const stack = await startStack({
    port: await freePort(),
    databasePort: server.port,
    database: ownDatabase,
    secretKeys: keys,
    allowNet: ["127.0.0.1"],
    environment: {
      EXPORT_TARGETS: JSON.stringify({
        offsite: { ...offsite, secret_access_key: "MARKED-key", session_token: "MARKED" },
      }),
      EXPORT_AGE_IDENTITIES: identity,
    },
    onLog: (text) => void (sinks.functionLog += text),
  });

  let isOver = false;
  const watcher = server.open("supabase_admin");
  const watched = (async () => {
    const seen = new Set<string>();
    while (!isOver) {
      const rows = await watcher<{ text: string }[]>`
        select concat_ws(' ', application_name, query) as text from pg_stat_activity where pid <> pg_backend_pid()`;
      for (const { text } of rows) seen.add(text);
      await sleep(5);
    }
    sinks.activity = [...seen].join("\n");
  })();
  const asked = new Set<string>();
  const plain = caller(stack.functionUrl);
  const call = async (method: string, path: string, options: CallOptions = {}) => {
    const answer = await plain(method, path, { credentials: { apikey: keys.default }, ...options });
    asked.add(`${method} ${path.replace(/\?.*/, "")}`);
    if (answer.status >= 400) sinks.errors += `${answer.text}\n${JSON.stringify([...answer.headers])}\n`;
    return answer;
  };
  const end = async () => {
    isOver = true;
    await watched;
    await stack.stop();
    receiver.close();
  };
  return { call, sql: server.open(), admin, sinks, hook, asked, end };
}

test("no secret is written down anywhere, whatever is asked for", { timeout: 240_000 }, async ({ onTestFinished }) => {
  const { call, sql, admin, sinks, hook, asked, end } = await startWithEverySink(onTestFinished);
  const wait = 60;
  const succeed = async (method: string, path: string, options: CallOptions = {}) => {
    const answer = await call(method, path, options);
    expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
    if (answer.json?.status && answer.json.kind) expect(answer.json.status, answer.text).toBe("succeeded");
    return answer;
  };
  const migration =
    "insert into public.people (id, email) values (7000, 'MARKED-in-a-file'); alter table public.people add column since text;";
  const file = { body: migration, headers: { "content-type": "application/sql" } };

  await succeed("PUT", "/v1/keys/night_shift", { json: { role: "operator" } });
  await succeed("GET", "/v1/keys");
  await succeed("GET", "/v1/keys/night_shift");
  await succeed("GET", "/ready", { credentials: bearer(serviceRoleKey) });
  await succeed("GET", "/metrics", { credentials: bearer(token) });
  await succeed("GET", "/docs");
  const plan = { tables: ["people"], notify_url: hook };
  await succeed("PUT", "/v1/plans/v10", { json: plan, credentials: { apikey: keys.night_shift } });
  await succeed("PUT", "/v1/plans/v11", { json: plan });
  await succeed("DELETE", "/v1/plans/v11");
  await succeed("GET", "/v1/plans");
  await succeed("GET", "/v1/plans/v10");
  await succeed("POST", "/v1/plans/v10/derive", file);
  await succeed("POST", "/v1/plans/v10/preflight", file);
  const { json: job } = await succeed("POST", "/v1/backups", { json: { version: "v10" }, wait });
  await succeed("GET", "/v1/backups");
  await succeed("GET", "/v1/backups/v10");
  await succeed("GET", "/v1/backups/v10/checklist");
  expect((await succeed("GET", "/v1/jobs")).text).not.toContain("MARKED");
  await succeed("GET", `/v1/jobs/${job.id}`);
  await succeed("GET", `/v1/jobs/${job.id}/events`);
  await succeed("POST", "/v1/backups/v10/verify", { wait });
  await sql`alter table public.people add column since text`;
  await sql`update public.people set email = email || '-changed' where id < 50`;
  await succeed("POST", "/v1/backups/v10/diff", { json: { sample_keys: 5 }, wait });
  const { json: way } = await succeed("GET", "/v1/backups/v10/rollback-plan?data=restore");
  const rollback = { plan_hash: way.plan_hash, data: "restore" };
  await succeed("POST", "/v1/backups/v10/rollback", { json: { ...rollback, rehearse: true }, wait });
  await succeed("POST", "/v1/backups/v10/rollback", { json: rollback, wait });
  await succeed("POST", "/v1/backups/v10/confirm", { json: { note: "done" } });
  await sql`update migration_guard.backups set confirmed_at = confirmed_at - interval '1 year'`;
  await succeed("POST", "/v1/backups/v10/verify", { wait });
  const { json: { token: cleanupToken } } = await succeed("GET", "/v1/backups/v10/cleanup-plan");

  const { json: exporting } = await succeed("POST", "/v1/backups/v10/exports", {
    json: { recipients: [recipient] },
    wait,
  });
  const { export: exportId } = exporting.result;
  await succeed("GET", "/v1/backups/v10/exports");
  await succeed("GET", `/v1/exports/${exportId}`);
  await succeed("POST", `/v1/exports/${exportId}/verify`, { wait });
  await call("POST", `/v1/exports/${exportId}/resume`);
  const { json: failing } = await call("POST", "/v1/backups/v10/exports", { json: { target: "offsite" }, wait });
  expect(failing).toMatchObject({ status: "failed", error: { code: "bucket_public" } });
  await call("POST", "/v1/backups/v10/exports", { json: { recipients: [identity] } });
  const { json: { token: removalToken } } = await succeed("GET", `/v1/exports/${exportId}/removal-plan`);
  await call("DELETE", `/v1/exports/${exportId}`, { json: { confirm: "no", token: removalToken } });
  await succeed("DELETE", `/v1/exports/${exportId}`, { json: { confirm: exportId, token: removalToken }, wait });

  // Refused, and with secrets where none belong.
  const cleanup = { confirm: "migration_backup_v10", token: cleanupToken };
  await call("DELETE", "/v1/backups/v10", { json: cleanup, credentials: { apikey: keys.night_shift } });
  await call("DELETE", "/v1/backups/v10", { json: { ...cleanup, confirm: "migration_backup_v1" } });
  await call("DELETE", "/v1/backups/v99", { json: cleanup });
  await call("DELETE", "/v1/backups/v10", { json: { ...cleanup, key: stray } });
  await call("GET", "/v1/plans", { credentials: { apikey: stray } });
  await call("GET", "/v1/plans", { credentials: bearer(expired) });
  await call("GET", `/v1/jobs?version=${stray}&key=${stray}`);
  await call("GET", `/v1/keys/${stray}`);
  await call("PUT", `/v1/keys/${token}`, { json: { role: "admin" } });
  await call("GET", `/${stray}/${token}`);
  await call("PUT", "/v1/plans/v12", { json: { tables: [], notify_url: `${hook}#${stray}` } });
  await call("PUT", "/v1/plans/v12", { json: { tables: ["people"], notify_url: `http://user:${stray}@127.0.0.1/` } });
  await call("POST", "/v1/plans/v10/derive", { ...file, body: `${migration} select '${stray}` });
  await call("POST", "/v1/backups", { body: `{"version": "${stray}`, headers: { "content-type": "application/json" } });
  await call("POST", "/v1/imports", { json: { export: stray, into: "v10", target: stray } });
  await call("DELETE", `/v1/jobs/${job.id}`);
  const { json: planAgain } = await succeed("GET", "/v1/backups/v10/cleanup-plan");
  await succeed("DELETE", "/v1/backups/v10", { json: { ...cleanup, token: planAgain.token }, wait });
  await succeed("POST", "/v1/backups/v10/restore-from-trash");
  await succeed("DELETE", "/v1/keys/night_shift");
  await succeed("GET", "/v1/audit");
  await succeed("GET", "/v1/audit/head");
  await succeed("GET", "/v1/audit/verify");
  await succeed("GET", "/health");
  await expect.poll(() => sql`select from migration_guard.webhooks where delivered_at is null`).toHaveLength(0);

  const { json: document } = await call("GET", "/openapi.json");
  const operations = Object.entries<object>(document.paths)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  const patterns = new Set(
    [...asked].map((one) =>
      one.replace(job.id, "{id}").replace(exportId, "{id}").replace(/\/v1[0-2](?=\/|$)/, "/{version}").replace(
        /(\/v1\/keys\/).*/,
        "$1{name}",
      )
    ),
  );
  expect(operations.filter((operation) => !patterns.has(operation))).toEqual([]);

  await end();
  const text = async (query: string) =>
    (await admin.unsafe<{ line: string }[]>(query)).map(({ line }) => line).join("\n");
  const places: Record<string, string> = {
    ...sinks,
    // Where a job's webhook goes is known from there alone.
    jobs: await text("select (to_jsonb(j) - 'notify_url')::text as line from migration_guard.jobs as j"),
    trail: await text("select to_jsonb(a)::text as line from migration_guard.audit_log as a"),
    tokens: await text("select to_jsonb(t)::text as line from migration_guard.cleanup_tokens as t"),
    statements: await text("select query as line from extensions.pg_stat_statements"),
  };
  for (const [place, content] of Object.entries(places)) expect(content.length, place).toBeGreaterThan(50);
  const signature = (jwt: string) => jwt.split(".")[2]!;
  const secrets = {
    ...{ keys: "sb_secret_", legacy: signature(serviceRoleKey), token: signature(token), expired: signature(expired) },
    ...{
      cleanupToken,
      removalToken,
      identity,
      secondCleanupToken: planAgain.token,
      hook: "MARKED",
      webhookSecret: webhookSecret.slice(6),
      jwtSecret,
    },
    ...{ jwksSecret: jwks.keys[1]!.k!, email: "VALUE-", phone: "PHONE-" },
  };
  const found = Object.entries(places).flatMap(([place, content]) =>
    Object.entries(secrets).filter(([, secret]) => content.includes(secret))
      .map(([name, secret]) =>
        `${name} in ${place}: ${content.slice(Math.max(content.indexOf(secret) - 300, 0)).slice(0, 500)}`
      )
  );
  expect(found).toEqual([]);
});

/** Functions that raise an error wherever a table of the project's can run one, as the product's own error, with a secret. */
const raising = (code: string) => `
  create table public.is_loud ();
  create function public.say(x anyelement) returns boolean language plpgsql immutable as $$ begin
    if exists (select from public.is_loud) then
      raise exception using errcode = '${code}', message = 'SECRET of ' || x, detail = '{"guards": [{"guard": "SECRET"}], "call": "SECRET"}', hint = 'SECRET';
    end if;
    return true; end $$;
  create domain public.told as text check (public.say(value));
  create table public.loud (id int primary key, word public.told, number int check (public.say(number)));
  create index on public.loud ((public.say(number)));
  create view public.heard as select * from public.loud where public.say(id);
  create function public.on_change() returns trigger language plpgsql as $$ begin perform public.say(new.id); return new; end $$;
  create trigger on_change before insert or update on public.loud for each row execute function public.on_change();
  alter table public.loud enable row level security;
  create policy mine on public.loud using (public.say(id));
  insert into public.loud select i, 'w' || i, i from generate_series(1, 20) as i;
  create function public.on_ddl() returns event_trigger language plpgsql as $$ begin perform public.say(1); end $$;
  create event trigger on_ddl on ddl_command_start execute function public.on_ddl()`;

test.for(["MG013", "MG022", "P0001", "23514", "42501"])(
  "what code of the project raises (%s) reaches nobody through the API",
  { timeout: 240_000 },
  async (code, { onTestFinished }) => {
    let log = "";
    const api = await startApi("with_product", { onLog: (text) => void (log += text) });
    onTestFinished(api.stop);
    const { call, database } = api;
    const admin = database.connect("supabase_admin");
    await admin.unsafe(raising(code)).simple();
    await call("PUT", "/v1/plans/v1", { json: { tables: ["loud"] } });
    expect((await call("POST", "/v1/backups", { json: { version: "v1" }, wait: 60 })).json).toMatchObject({
      status: "succeeded",
    });
    await admin.unsafe(
      "alter table public.loud add column more text; update public.loud set number = number + 1 where id > 10",
    ).simple();
    const { json: plan } = await call("GET", "/v1/backups/v1/rollback-plan?data=restore");

    await admin`insert into public.is_loud default values`;
    const file = {
      body: "update public.loud set number = 1; drop view public.heard",
      headers: { "content-type": "application/sql" },
    };
    const rollback = { plan_hash: plan.plan_hash, data: "restore" };
    const answers = [];
    for (
      const [method, path, options] of [
        ["PUT", "/v1/plans/v2", { json: { tables: ["loud"], match: "say" } }],
        ["POST", "/v1/plans/v2/derive", file],
        ["POST", "/v1/plans/v2/preflight", file],
        ["POST", "/v1/backups", { json: { version: "v2" }, wait: 5 }],
        ["GET", "/v1/backups/v1", {}],
        ["GET", "/v1/backups", {}],
        ["GET", "/v1/backups/v1/checklist", {}],
        ["POST", "/v1/backups/v1/verify", { wait: 5 }],
        ["POST", "/v1/backups/v1/diff", { json: { sample_keys: 3 }, wait: 5 }],
        ["GET", "/v1/backups/v1/rollback-plan?data=restore", {}],
        ["POST", "/v1/backups/v1/rollback", { json: { ...rollback, rehearse: true }, wait: 5 }],
        ["POST", "/v1/backups/v1/rollback", { json: rollback, wait: 5 }],
        ["POST", "/v1/imports", { json: { export: "v1.0-20261129T113335Z-8f3a2b1c", into: "v3" }, wait: 5 }],
        ["GET", "/v1/backups/v1/cleanup-plan", {}],
        ["DELETE", "/v1/backups/v1", { json: { confirm: "migration_backup_v1", token: "x" } }],
        ["GET", "/v1/jobs", {}],
        ["GET", "/metrics", {}],
        ["GET", "/v1/audit", {}],
      ] as [string, string, CallOptions][]
    ) answers.push({ asked: `${method} ${path}`, ...await call(method, path, options) });
    // Something has raised: otherwise there was nothing to keep.
    expect(answers.map(({ json }) => json?.code)).toContain(
      code === "42501" ? "service_role_required" : "database_error",
    );
    for (const { asked, text } of answers) expect(text, asked).not.toContain("SECRET");
    expect(log).not.toContain("SECRET");
    const [{ rows }] = await admin<[{ rows: string }]>`
      select concat((select json_agg(j) from migration_guard.jobs as j), (select json_agg(a) from migration_guard.audit_log as a)) as rows`;
    expect(rows).not.toContain("SECRET");
  },
);
