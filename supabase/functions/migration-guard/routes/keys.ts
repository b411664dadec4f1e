import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { Role } from "../roles.ts";
import { rpc } from "../rpc.ts";
import { jsonBody, jsonContent, NullableTimestamp, problemResponses } from "../schemas.ts";

const Key = z.object({
  name: z.string().openapi({
    description: "Name of the secret key in the project; `service_role` for every token of that role.",
  }),
  role: Role,
  is_assigned: z.boolean().openapi({
    description:
      "False where the role is the one that a key has without: `admin` for `default` and `service_role`, else `viewer`.",
  }),
  updated_at: NullableTimestamp,
  updated_by: z.string().nullable().openapi({ description: "The key that gave the role last." }),
}).openapi("Key");

const params = z.object({
  name: z.string().regex(/^(?!sb_|eyJ)/, "is the name of a key, not the key itself").regex(
    /^[a-z_][a-z0-9_-]{0,63}$/,
    "is 1 to 64 lower-case letters, digits, _ and -, as the project has it",
  ).openapi({
    param: { name: "name", in: "path" },
    example: "night_shift",
  }),
});

const tags = ["keys"];

const listKeys = createRoute({
  method: "get",
  path: "/v1/keys",
  "x-required-role": "admin",
  tags,
  summary: "The project's keys by name, those that were given a role besides, and what each may do.",
  responses: { 200: jsonContent(z.object({ keys: z.array(Key) }), "The keys, by name."), ...problemResponses() },
});

const getKey = createRoute({
  method: "get",
  path: "/v1/keys/{name}",
  "x-required-role": "admin",
  tags,
  summary: "What a key of a name may do, whether or not there is one.",
  request: { params },
  responses: { 200: jsonContent(Key, "The key."), ...problemResponses() },
});

const putKey = createRoute({
  method: "put",
  path: "/v1/keys/{name}",
  "x-required-role": "admin",
  "x-audit-action": "key.put",
  tags,
  summary: "Give a role to a key. An admin is lowered by another admin, and `default` not by `service_role`.",
  request: { params, body: jsonBody(z.strictObject({ role: Role }), { role: "operator" }) },
  responses: { 200: jsonContent(Key, "The key, with its role."), ...problemResponses(409, 413, 415) },
});

const deleteKey = createRoute({
  method: "delete",
  path: "/v1/keys/{name}",
  "x-required-role": "admin",
  "x-audit-action": "key.delete",
  tags,
  summary: "Take the role away that was given to a key, which then has the one that it has without.",
  request: { params },
  responses: { 204: { description: "It is gone." }, ...problemResponses(404, 409) },
});

/** @param names The keys that a request to this function may come with. */
export function keys(app: App, names: string[]) {
  app.openapi(listKeys, async (c) => {
    const parameters = { names, actor: c.var.actor };
    return c.json({ keys: await rpc(c.var.client, "list_keys", parameters, z.array(Key)) }, 200);
  });

  app.openapi(getKey, async (c) => {
    const parameters = { ...c.req.valid("param"), actor: c.var.actor };
    return c.json(await rpc(c.var.client, "get_key", parameters, Key), 200);
  });

  app.openapi(putKey, async (c) => {
    const parameters = { ...c.req.valid("param"), ...c.req.valid("json"), actor: c.var.actor };
    return c.json(await rpc(c.var.client, "put_key", parameters, Key), 200);
  });

  app.openapi(deleteKey, async (c) => {
    await rpc(c.var.client, "delete_key", { ...c.req.valid("param"), actor: c.var.actor }, z.unknown());
    return c.body(null, 204);
  });
}
