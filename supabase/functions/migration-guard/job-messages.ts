import type { Context } from "hono";
import type { StreamingApi } from "hono/utils/stream";
import type { AppEnv } from "./app.ts";
import { type Following, followJob, type JobMessage } from "./follow-job.ts";
import type { Job } from "./schemas.ts";
import { timeToStream } from "./time-to-stream.ts";

/** When this isolate began, as far as it can know. */
const born = performance.now();

/** What is to be told of a job to the client of a stream, until it goes away; a worker that was lost is replaced meanwhile. */
export async function* jobMessages(
  c: Context<AppEnv>,
  stream: StreamingApi,
  job: Job,
  { read, seen }: Pick<Following, "read" | "seen">,
): AsyncGenerator<JobMessage, void> {
  const gone = new AbortController();
  stream.onAbort(() => gone.abort());
  c.req.raw.signal.addEventListener("abort", () => stream.abort());
  if (stream.aborted || c.req.raw.signal.aborted) return;

  if (!job.finished_at) c.var.pokeWorker();
  const time = timeToStream(performance.now() - born);
  for await (const message of followJob(job, { read, seen, signal: gone.signal, time })) {
    // A job that has a worker does not stand still for long.
    if (message.event === "heartbeat" && !message.isAway) c.var.pokeWorker();
    yield message;
  }
}
