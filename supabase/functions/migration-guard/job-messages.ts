import type { Context } from "hono";
import type { StreamingApi } from "hono/utils/stream";
import type { AppEnv } from "./app.ts";
import { type Following, followJob, type JobMessage } from "./follow-job.ts";
import type { Job } from "./schemas.ts";
import { throttled } from "./throttled.ts";

/**
 * Milliseconds for which a stream goes on before its client is asked to come back: its looks at the job then take less than
 * 100 ms of CPU time in all. It also ends before the platform cuts it, which gives no request to an isolate in the second
 * half of its life, of 150 s at least.
 */
const timeToStream = 60_000;

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
  const pokeAgain = throttled(c.var.pokeWorker);
  for await (const message of followJob(job, { read, seen, signal: gone.signal, time: timeToStream })) {
    // A job that has a worker does not stand still for long.
    if (message.event === "heartbeat" && !message.isAway) pokeAgain();
    yield message;
  }
}
