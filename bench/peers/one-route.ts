// The least that a function of Hono can be.
import { Hono } from "hono";

const app = new Hono();
app.get("/migration-guard/health", (c) => c.json({ status: "ok" }));

Deno.serve(app.fetch);
