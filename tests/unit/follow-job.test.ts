import { expect, test } from "vitest";
import { type Following, followJob, type JobMessage } from "../../supabase/functions/migration-guard/follow-job.ts";
import { jobStateId } from "../../supabase/functions/migration-guard/job-state-id.ts";
import { Problem } from "../../supabase/functions/migration-guard/problems.ts";
import type { Job } from "../../supabase/functions/migration-guard/schemas.ts";
import { someJob } from "../support/some-job.ts";

const ended: Job = { ...someJob, status: "succeeded", finished_at: "2026-01-01T00:01:00+00:00" };
const away = new Problem("database_unavailable", { detail: "It is away." });

/** What is told of a job whose looks find one of `found` after the other, and then the last one again and again. */
async function tell(found: (Job | Error)[], following: Partial<Following> = {}): Promise<JobMessage[]> {
  const rest = found.slice(1);
  const read = () => {
    const next = rest.length > 1 ? rest.shift()! : rest[0] ?? found[0]!;
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  };
  const options = {
    read,
    signal: new AbortController().signal,
    time: 60_000,
    pause: [1, 1] as [number, number],
    ...following,
  };
  const told: JobMessage[] = [];
  for await (const message of followJob(found[0] as Job, options)) told.push(message);
  return told;
}

const events = (messages: JobMessage[]) => messages.map(({ event }) => event);

test("each state is told once, the end included", async () => {
  const half: Job = { ...someJob, progress: { ...someJob.progress, step: "half", done: 1, percent: 50 } };
  const told = await tell([someJob, someJob, half, half, { ...half }, ended]);
  expect(told).toMatchObject([
    { event: "progress", id: await jobStateId(someJob), job: someJob },
    { event: "progress", id: await jobStateId(half), job: half },
    { event: "end", id: await jobStateId(ended), job: ended },
  ]);
});

test("who knows the present state is told what comes after it", async () => {
  expect(events(await tell([someJob, ended], { seen: await jobStateId(someJob) }))).toEqual(["end"]);
  expect(events(await tell([someJob, ended], { seen: "another" }))).toEqual(["progress", "end"]);
});

test("when the time has run out the reader is asked to reconnect, with the id of what it knows", async () => {
  const id = await jobStateId(someJob);
  expect(await tell([someJob], { time: 20 })).toEqual([
    { event: "progress", id, job: someJob },
    { event: "reconnect", id },
  ]);
  expect(await tell([someJob], { time: 0, seen: id })).toEqual([{ event: "reconnect", id }]);
  expect(events(await tell([ended], { time: 0 }))).toEqual(["end"]);
});

test("silence is broken by heartbeats, and they say when the database is away, which is waited out", async () => {
  const quiet = await tell([someJob], { time: 50, silence: 0 });
  expect(events(quiet).slice(1, -1)).toContain("heartbeat");
  expect(events(quiet).at(-1)).toBe("reconnect");
  expect(quiet).not.toContainEqual({ event: "heartbeat", isAway: true });
  const told = await tell([someJob, away, away, ended], { silence: 0 });
  expect(told).toContainEqual({ event: "heartbeat", isAway: true });
  expect(events(told).at(-1)).toBe("end");
  // Not a word between them where there is no silence.
  expect(events(await tell([someJob, away, away, ended]))).toEqual(["progress", "end"]);
});

test("any other error is told, and is the last thing", async () => {
  const gone = new Problem("job_not_found", { detail: "It is gone." });
  expect((await tell([someJob, gone])).slice(1)).toEqual([{ event: "error", error: gone }]);
  const fault = new Error("a fault");
  expect((await tell([someJob, fault])).slice(1)).toEqual([{ event: "error", error: fault }]);
});

test("nobody looks at the job any more when the reader has gone", async () => {
  const reader = new AbortController();
  let looks = 0;
  const read = () => {
    if (++looks === 3) reader.abort();
    return Promise.resolve(someJob);
  };
  expect(events(await tell([someJob], { read, signal: reader.signal }))).toEqual(["progress"]);
  expect(looks).toBe(3);
});
