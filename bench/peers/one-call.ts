// What `GET /v1/backups/{version}` comes to without all that surrounds it: one route, and the same call by supabase-js.
import { createClient } from "@supabase/supabase-js";
import { Hono } from "hono";

const { default: secretKey } = JSON.parse(Deno.env.get("SUPABASE_SECRET_KEYS")!);
const client = createClient(Deno.env.get("SUPABASE_URL")!, secretKey, { db: { schema: "migration_guard_api" } });

const app = new Hono();
app.get("/migration-guard/v1/backups/:version", async (c) => {
  const { data, error } = await client.rpc("get_backup", { version: c.req.param("version") });
  return error ? c.json(error, 500) : c.json(data);
});

Deno.serve(app.fetch);
