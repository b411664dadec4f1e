import { createRoute, z } from "@hono/zod-openapi";
import { accepts } from "deno-std/http/negotiation.js";
import { streamSSE, streamText } from "hono/streaming";
import type { App } from "../app.ts";
import { jobMessages } from "../job-messages.ts";
import { jobStateId } from "../job-state-id.ts";
import { problemOf } from "../problem-of.ts";
import { Problem } from "../problems.ts";
import { rpc } from "../rpc.ts";
import { Job, JobParameter, problemResponses } from "../schemas.ts";
import { writeJobEvents } from "../write-job-events.ts";
import { writeJobText } from "../write-job-text.ts";

const getJobEvents = createRoute({
  method: "get",
  path: "/v1/jobs/{id}/events",
  "x-required-role": "viewer",
  tags: ["jobs"],
  summary: "What becomes of a job, as it happens, until it ends: as server-sent events, or as a progress bar.",
  description: `
Every event but \`reconnect\` and \`error\` has the whole job as its data, as \`GET /v1/jobs/{id}\` answers it, and the id of
that state of the job.

| event | when |
| --- | --- |
| \`progress\` | at once, and when the job has changed, which is looked at every one to three seconds |
| \`end\` | the job has finished; the stream ends |
| \`reconnect\` | the job goes on, but the stream ends, after a minute: come back, as an \`EventSource\` does by itself |
| \`error\` | the job cannot be followed any more, since there is no such job any longer, say; the data is a problem; the stream ends |

A client that comes back with \`Last-Event-ID\` is told nothing that it knows, and misses neither the present state nor the
end. While the database is away the stream stays open, and goes on when it is back. A comment comes where nothing else has
for some seconds.

With \`Accept: text/plain\` it is one line for a terminal, drawn anew after each carriage return, and at the end a line that
says how the job has ended, or which command follows it again.`.trim(),
  request: {
    params: JobParameter,
    headers: z.object({
      "last-event-id": z.string().optional().openapi({
        description: "Id of the last event that the client has seen. Text has no events, and takes none.",
        example: "5f1d6a0c9b3e4d27",
      }),
    }),
  },
  responses: {
    200: {
      description: "The stream.",
      content: {
        "text/event-stream": {
          schema: z.string().openapi({
            example: 'event: progress\ndata: {"id":"…","kind":"backup",…}\nid: 5f1d6a0c9b3e4d27\n\n',
          }),
        },
        "text/plain": {
          schema: z.string().openapi({ example: "\rbackup v10.0 [########--------] 50%, 2 of 4: public.profiles" }),
        },
      },
    },
    204: {
      description: "`Last-Event-ID` is the id of the end: there is nothing more to come, and no reason to ask again.",
    },
    ...problemResponses(404, 406),
  },
});

/** @param url Base URL of the function, as its clients know it. */
export function jobEvents(app: App, url: string) {
  app.openapi(getJobEvents, async (c) => {
    const type = accepts(c.req.raw, "text/event-stream", "text/plain");
    if (!type) throw new Problem("not_acceptable", { detail: "Accept text/event-stream or text/plain." });
    const { id } = c.req.valid("param");
    const read = () => rpc(c.var.client, "get_job", { id, actor: c.var.actor }, Job);
    const job = await read();
    // What an isolate does is lost with it, unlike what the database does: whoever watches has it gone on with.
    if (!job.finished_at && /export|import/.test(job.kind)) c.var.pokeWorker();
    c.header("vary", "accept");
    c.header("x-accel-buffering", "no");
    const toProblem = (error: unknown) => problemOf(error, `GET ${c.req.path}`, c.var.requestId);
    if (type === "text/plain") {
      const command = `curl -N -H "apikey: $KEY" -H 'accept: text/plain' ${url}/v1/jobs/${id}/events`;
      return streamText(c, (stream) => writeJobText(stream, jobMessages(c, stream, job, { read }), toProblem, command));
    }
    const seen = c.req.valid("header")["last-event-id"];
    if (job.finished_at && seen === await jobStateId(job)) return c.body(null, 204);
    const problemText = (error: unknown) => toProblem(error).toResponse(c.var.requestId).text();
    return streamSSE(c, (stream) => writeJobEvents(stream, jobMessages(c, stream, job, { read, seen }), problemText));
  });
}
