import { delay } from "deno-std/async/delay.js";
import type { Context } from "hono";
import type { AppEnv } from "./app.ts";
import { waitSeconds } from "./prefer.ts";
import { Problem } from "./problems.ts";
import { queueHint } from "./queue-hint.ts";
import { rpc } from "./rpc.ts";
import { Job, jsonContent } from "./schemas.ts";
import { throttled } from "./throttled.ts";

/** Seconds after which a client that was answered with an unfinished job should ask again. */
const retryAfter = 1;

/**
 * Milliseconds between two looks at a job that is waited for, at most. Each takes CPU time, of which a request has 100 ms; a
 * job that this function's own worker runs is looked at when that is done.
 */
const longestPause = 10_000;

/** The answers of a route that makes a job, for the OpenAPI document. */
export const jobResponses = {
  200: jsonContent(Job, "The job, finished within the time that `Prefer: wait=SECONDS` gave it."),
  202: {
    ...jsonContent(Job, "The job, queued or running. `Location` is where to read it, `Retry-After` when."),
    headers: {
      location: { schema: { type: "string" as const }, description: "Path of the job below the API's base." },
      "retry-after": { schema: { type: "integer" as const }, description: "Seconds." },
    },
  },
};

/** Has a new job run, and answers with it: finished when that comes in the time that the request gives, or as it is then. */
export async function answerJob(c: Context<AppEnv>, job: Job) {
  const work = c.var.pokeWorker(job.kind === "backup" ? "backup" : "other");
  const wait = waitSeconds(c.req.header("prefer"));
  if (wait > 0) c.header("preference-applied", `wait=${wait}`);
  // To make the job may have taken most of what the platform gives a request.
  const latest = await waitForJob(c, job, work, c.var.start + wait * 1000);
  if (latest.finished_at) return c.json(latest, 200);
  if (latest.status === "queued") latest.hint = await queueHint(c);
  return c.json(latest, 202, { location: `/v1/jobs/${latest.id}`, "retry-after": String(retryAfter) });
}

/**
 * The job as it is when it has finished, or when the time has run out.
 *
 * @param work Settled when the worker has nothing more to do.
 */
async function waitForJob(
  c: Context<AppEnv>,
  job: Job,
  work: Promise<unknown> | undefined,
  deadline: number,
): Promise<Job> {
  const pokeAgain = throttled(c.var.pokeWorker);
  for (let pause = 50; !job.finished_at && performance.now() < deadline; pause = Math.min(pause * 1.5, longestPause)) {
    const paused = delay(Math.min(pause, deadline - performance.now()));
    await (work ? Promise.race([paused, work.then(() => work = undefined)]) : paused);
    try {
      job = await rpc(c.var.client, "get_job", { id: job.id, actor: c.var.actor }, Job);
    } catch (error) {
      // The job goes on without us: a database that is away for a moment is no reason to say less than is known.
      if (!(error instanceof Problem) || error.status !== 503) throw error;
    }
    // A worker that was lost is replaced here, too.
    if (!job.finished_at) pokeAgain();
  }
  return job;
}
