import { SSEStreamingApi } from "hono/streaming";
import { expect, test } from "vitest";
import type { JobMessage } from "../../supabase/functions/migration-guard/follow-job.ts";
import { problemOf } from "../../supabase/functions/migration-guard/problem-of.ts";
import { writeJobEvents } from "../../supabase/functions/migration-guard/write-job-events.ts";
import { writeJobText } from "../../supabase/functions/migration-guard/write-job-text.ts";
import { someJob } from "../support/some-job.ts";

const toProblem = (error: unknown) => problemOf(error, "GET /", "night-7");

const toEvents = (messages: JobMessage[]) =>
  written((stream) =>
    writeJobEvents(stream, inTurn(messages), (error) => toProblem(error).toResponse("night-7").text())
  );

const toText = (messages: JobMessage[]) =>
  written((stream) => writeJobText(stream, inTurn(messages), toProblem, "curl -N …/events"));

const outOfTime: JobMessage[] = [
  { event: "progress", id: "1a", job: someJob },
  { event: "heartbeat", isAway: true },
  { event: "reconnect", id: "1a" },
];

/** What a client receives. */
async function written(write: (stream: SSEStreamingApi) => Promise<void>): Promise<string> {
  const { readable, writable } = new TransformStream();
  const stream = new SSEStreamingApi(writable, readable);
  const received = new Response(stream.responseReadable).text();
  await write(stream);
  await stream.close();
  return received;
}

async function* inTurn(messages: JobMessage[]) {
  yield* messages;
}

test("a stream of events that runs out of time says so, and to come back", async () => {
  const [retry, progress, heartbeat, reconnect, rest] = (await toEvents(outOfTime)).split("\n\n");
  expect(retry).toMatch(/^retry: \d+$/);
  expect(progress).toBe(`event: progress\ndata: ${JSON.stringify(someJob)}\nid: 1a`);
  expect(heartbeat).toMatch(/^: /);
  expect(reconnect).toMatch(/^event: reconnect\ndata: \{"detail":"The job goes on\..*"\}\nid: 1a$/);
  expect(rest).toBe("");
});

test("a progress bar that runs out of time says that the job goes on, and which command follows it again", async () => {
  const drawn = (await toText(outOfTime)).split("\r");
  expect(drawn[1]!.trim()).toMatch(/: public\.profiles$/);
  expect(drawn[2]!.trim()).toMatch(/: waiting for the database$/);
  // The bar is wiped away.
  expect(drawn[3]).toBe(" ".repeat(79));
  expect(drawn.slice(4)).toEqual(["The job goes on. Follow it again: curl -N …/events\n"]);
});

test("an error that nobody expected is not told to the client", async () => {
  const failing: JobMessage[] = [{ event: "error", error: new Error("secret") }];
  for (const write of [toEvents, toText]) {
    const told = await write(failing);
    expect(told).toContain("internal_error");
    expect(told).not.toContain("secret");
  }
});
