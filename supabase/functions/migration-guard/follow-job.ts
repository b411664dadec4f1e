import { delay } from "deno-std/async/delay.js";
import { jobStateId } from "./job-state-id.ts";
import { Problem } from "./problems.ts";
import type { Job } from "./schemas.ts";

/** What is to be told of a job; the last one is an end, an error or a reconnect. */
export type JobMessage =
  | { event: "progress" | "end"; id: string; job: Job }
  /** Nothing has changed for a while, or the database is away and the last that is known still stands. */
  | { event: "heartbeat"; isAway: boolean }
  /** The job goes on, but can be followed no longer in this stream; `id` is the state that was told last. */
  | { event: "reconnect"; id: string }
  | { event: "error"; error: unknown };

export type Following = {
  /** Reads the job. A {@link Problem} with status 503 means that the database is away, and is waited out. */
  read: () => Promise<Job>;
  /** Id of the state that the reader knows already. */
  seen?: string;
  /** Aborted when nobody reads any more. */
  signal: AbortSignal;
  /** Milliseconds after which the reader is asked to reconnect. */
  time: number;
  /** Milliseconds between two looks at the job: the first ones, from which they grow, and the longest. */
  pause?: [first: number, longest: number];
  /** Milliseconds of silence that call for a heartbeat; the next look may end 7.5 s later. */
  silence?: number;
};

/** Tells each state of a job that differs from the last one told, beginning with `job`, until it ends or the time has run out. */
export async function* followJob(
  job: Job,
  { read, seen, signal, time, pause: [first, longest] = [1000, 3000], silence = 10_000 }: Following,
): AsyncGenerator<JobMessage, void> {
  const deadline = performance.now() + time;
  let toldAt = performance.now();
  let isAway = false;
  for (let pause = first; !signal.aborted; pause = Math.min(pause * 1.5, longest)) {
    const id = await jobStateId(job);
    if (id !== seen) {
      yield { event: job.finished_at ? "end" : "progress", id, job };
      seen = id;
      toldAt = performance.now();
    }
    if (job.finished_at) return;
    if (performance.now() >= deadline) return yield { event: "reconnect", id };
    if (performance.now() - toldAt >= silence) {
      yield { event: "heartbeat", isAway };
      toldAt = performance.now();
    }
    try {
      await delay(pause, { signal });
      job = await read();
      isAway = false;
    } catch (error) {
      if (signal.aborted) return;
      isAway = error instanceof Problem && error.status === 503;
      if (!isAway) return yield { event: "error", error };
    }
  }
}
