import { expect } from "vitest";
import { test } from "../support/api.ts";

const placeholders: Record<string, string> = {
  "{version}": "v10.0",
  "{id}": "00000000-0000-4000-8000-000000000000",
  "{name}": "night_shift",
};

const exportId = "v10.0-20260101T000000Z-00000000";

type Operation = {
  requestBody?: { required?: boolean; content: Record<string, { schema: unknown; example?: unknown }> };
  parameters?: { name: string }[];
  responses: Record<string, unknown>;
  security?: unknown[];
  summary?: string;
};

test("the OpenAPI document lists every path of the contract, without a credential", async ({ api }) => {
  const { status, json } = await api.call("GET", "/openapi.json", { credentials: {} });
  expect(status).toBe(200);
  expect(json.openapi).toBe("3.1.0");
  const operations = Object.entries<Record<string, Operation>>(json.paths)
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  expect(operations.sort()).toEqual([
    "DELETE /v1/backups/{version}",
    "DELETE /v1/exports/{id}",
    "DELETE /v1/jobs/{id}",
    "DELETE /v1/keys/{name}",
    "DELETE /v1/plans/{version}",
    "GET /docs",
    "GET /health",
    "GET /metrics",
    "GET /ready",
    "GET /v1/audit",
    "GET /v1/audit/head",
    "GET /v1/audit/verify",
    "GET /v1/backups",
    "GET /v1/backups/{version}",
    "GET /v1/backups/{version}/checklist",
    "GET /v1/backups/{version}/cleanup-plan",
    "GET /v1/backups/{version}/exports",
    "GET /v1/backups/{version}/rollback-plan",
    "GET /v1/exports/{id}",
    "GET /v1/exports/{id}/removal-plan",
    "GET /v1/jobs",
    "GET /v1/jobs/{id}",
    "GET /v1/jobs/{id}/events",
    "GET /v1/keys",
    "GET /v1/keys/{name}",
    "GET /v1/plans",
    "GET /v1/plans/{version}",
    "POST /v1/backups",
    "POST /v1/backups/{version}/confirm",
    "POST /v1/backups/{version}/diff",
    "POST /v1/backups/{version}/exports",
    "POST /v1/backups/{version}/restore-from-trash",
    "POST /v1/backups/{version}/rollback",
    "POST /v1/backups/{version}/verify",
    "POST /v1/exports/{id}/resume",
    "POST /v1/exports/{id}/verify",
    "POST /v1/imports",
    "POST /v1/plans/{version}/derive",
    "POST /v1/plans/{version}/preflight",
    "PUT /v1/keys/{name}",
    "PUT /v1/plans/{version}",
  ]);
});

test("every path refuses a request without a credential, and a body that is missing where one is wanted", async ({ api }) => {
  const { json } = await api.call("GET", "/openapi.json");
  let withBody = 0;
  for (const [template, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
    const isExport = template.startsWith("/v1/exports/");
    const path = template.replace(/\{\w+\}/g, (name) => isExport ? exportId : placeholders[name]!);
    for (const [method, operation] of Object.entries(methods)) {
      const name = `${method} ${template}`;
      expect(operation.summary, name).toBeTruthy();
      const anonymous = await api.call(method.toUpperCase(), path, { credentials: {} });
      expect(anonymous.status, name).toBe(template === "/health" ? 200 : 401);
      if (template === "/health") continue;
      expect(Object.keys(operation.responses), name).toEqual(expect.arrayContaining(["400", "401", "403", "503"]));
      if (!operation.requestBody?.required) continue;
      withBody++;
      const empty = await api.call(method.toUpperCase(), path);
      expect(empty.json, name).toMatchObject({ status: 400, code: "invalid_request" });
      const { example } = operation.requestBody.content["application/json"] ?? {};
      if (!example) {
        expect(empty.json.detail, name).toBe("The body is the text of the migration file.");
        continue;
      }
      const fields = empty.json.errors.map((error: { path: string }) => error.path).filter(Boolean);
      if (fields.length > 0) expect(Object.keys(example), name).toEqual(fields);
      for (const field of fields) expect(empty.json.detail, name).toContain(`${field}: is missing`);
      const shown = `Send a body like ${JSON.stringify(example)}.`;
      const headers = { "content-type": "application/json" };
      const malformed = await api.call(method.toUpperCase(), path, { headers, body: "note" });
      const none = await api.call(method.toUpperCase(), path, { headers });
      expect(malformed.json, name).toMatchObject({ status: 400, code: "invalid_json" });
      for (const { json: { detail } } of [empty, malformed, none]) expect(detail.endsWith(shown), name).toBe(true);
    }
  }
  expect(withBody).toBe(9);
});

test("the page of the document tells of each operation, in full, and loads nothing", async ({ api }) => {
  const [page, { json }] = [await api.call("GET", "/docs"), await api.call("GET", "/openapi.json")];
  expect(page.headers.get("content-type")).toMatch(/^text\/html/);
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(page.text).not.toMatch(/<script|src=|href=/);
  for (const [path, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
    for (const [method, { parameters = [] }] of Object.entries(methods)) {
      const [, told] = page.text.split(`<code>${method.toUpperCase()} ${path}</code></h2>`);
      const section = told?.split("<h2>")[0];
      expect(section, `${method} ${path}`).toMatch(/<summary>20[0-4]: /);
      for (const { name } of parameters) expect(section, `${method} ${path}`).toContain(`<code>${name}</code>`);
    }
  }
  for (const name of Object.keys(json.components.schemas)) expect(page.text).toContain(`<summary>${name}</summary>`);
});

test("whatever takes an Idempotency-Key says that it may come with another request", async ({ api }) => {
  const { json } = await api.call("GET", "/openapi.json");
  const repeatable = Object.entries<Record<string, Operation>>(json.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { parameters = [] }]) => parameters.some(({ name }) => name === "idempotency-key"))
      .map(([method, { responses }]) => ({ name: `${method} ${path}`, statuses: Object.keys(responses) }))
  );
  expect(repeatable).toHaveLength(10);
  for (const { name, statuses } of repeatable) expect(statuses, name).toContain("409");
});

test("the document says which times of a job and a backup may be missing", async ({ api }) => {
  const { json: { components: { schemas } } } = await api.call("GET", "/openapi.json");
  for (
    const [name, times] of Object.entries({
      Job: ["started_at", "finished_at"],
      Backup: ["verified_at", "confirmed_at", "last_diff_at", "rolled_back_at"],
    })
  ) {
    for (const time of times) {
      expect(schemas[name].properties[time], time).toMatchObject({ type: ["string", "null"], format: "date-time" });
    }
    expect(schemas[name].properties.created_at).toMatchObject({ type: "string", format: "date-time" });
  }
});

test("the function answers with and without its name in the path", async ({ api }) => {
  const { url } = api.stack.edgeRuntime;
  for (const path of ["/health", "/migration-guard/health", "/functions/v1/migration-guard/health"]) {
    const response = await fetch(url + path);
    expect(await response.json()).toEqual({ status: "ok", version: "0.1.0" });
  }
});

test("?pretty indents an answer, and ends its last line", async ({ api }) => {
  for (
    const [path, status] of [["/health", 200], ["/v1/plans", 200], ["/v1/plans/v9", 404], ["/nothing", 404]] as const
  ) {
    const [dense, pretty] = [await api.call("GET", path), await api.call("GET", `${path}?pretty`)];
    expect(pretty.status, path).toBe(status);
    expect(dense.text, path).not.toContain("\n");
    expect(pretty.text, path).toBe(`${JSON.stringify(pretty.json, null, 2)}\n`);
    expect(pretty.headers.get("content-type")).toBe(dense.headers.get("content-type"));
    expect(pretty.headers.get("cache-control")).toBe("no-store");
  }
});

test("a request id is taken over, and told again", async ({ api }) => {
  const headers = { "x-request-id": "night-7" };
  const found = await api.call("GET", "/v1/plans", { headers });
  expect(found.headers.get("x-request-id")).toBe("night-7");
  const missing = await api.call("GET", "/v1/plans/v9", { headers });
  expect(missing.json.instance).toBe("night-7");
  expect(missing.headers.get("x-request-id")).toBe("night-7");
});
