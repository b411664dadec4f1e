import { createRoute, z } from "@hono/zod-openapi";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import { rpc } from "../rpc.ts";
import { Job, JobHeaders, JobParameter, jsonContent, Pretty, problemResponses, Version } from "../schemas.ts";

const tags = ["jobs"];

const listJobs = createRoute({
  method: "get",
  path: "/v1/jobs",
  "x-required-role": "viewer",
  tags,
  summary: "Jobs, newest first.",
  request: {
    query: z.strictObject({
      version: Version.optional(),
      pretty: Pretty,
      limit: z.coerce.number().int().min(1).max(200).default(50).openapi({ description: "How many at most." }),
    }),
  },
  responses: { 200: jsonContent(z.object({ jobs: z.array(Job) }), "The jobs."), ...problemResponses() },
});

const getJob = createRoute({
  method: "get",
  path: "/v1/jobs/{id}",
  "x-required-role": "viewer",
  tags,
  summary: "A job: its status, its progress, and its result or error.",
  request: { params: JobParameter },
  responses: { 200: jsonContent(Job, "The job."), ...problemResponses(404) },
});

const cancelJob = createRoute({
  method: "delete",
  path: "/v1/jobs/{id}",
  "x-required-role": "operator",
  "x-audit-action": "cancel",
  // Whoever has gone too far can always stop.
  "x-changes": false,
  tags,
  summary: "Cancels a job: a queued one at once, a running one within seconds. All that it has done is undone.",
  request: { params: JobParameter, headers: JobHeaders.pick({ prefer: true }) },
  responses: {
    200: jsonContent(Job, "The job, which has ended: `cancelled`, unless it was faster."),
    202: {
      ...jobResponses[202],
      ...jsonContent(Job, "The job, which is being cancelled. `Location` is where to read it."),
    },
    ...problemResponses(404, 409),
  },
});

export function jobs(app: App) {
  app.openapi(listJobs, async (c) => {
    const { version, limit } = c.req.valid("query");
    const parameters = { version, max_jobs: limit, actor: c.var.actor };
    return c.json({ jobs: await rpc(c.var.client, "list_jobs", parameters, z.array(Job)) }, 200);
  });

  app.openapi(getJob, async (c) => {
    const parameters = { ...c.req.valid("param"), actor: c.var.actor };
    const job = await rpc(c.var.client, "get_job", parameters, Job);
    // A poke that failed, or a worker that was lost, is made good by whoever looks.
    if (!job.finished_at) c.var.pokeWorker();
    return c.json(job, 200);
  });

  app.openapi(cancelJob, async (c) => {
    const parameters = { ...c.req.valid("param"), actor: c.var.actor };
    return answerJob(c, await rpc(c.var.client, "cancel_job", parameters, Job));
  });
}
