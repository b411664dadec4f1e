import { format as formatBytes } from "deno-std/fmt/bytes.js";
import { fitColumns } from "./fit-columns.ts";
import { jobName } from "./job-name.ts";
import { oneLine } from "./one-line.ts";
import { readableDuration } from "./readable-duration.ts";
import type { Job } from "./schemas.ts";

/** Columns of a line: in the eightieth some terminals begin the next one. */
const columns = 79;
const barColumns = 16;

type Progress = Job["progress"];

/** Made when it is first needed: that takes as long as to load a library. */
let compact: Intl.NumberFormat | undefined;

/**
 * The progress of a job as one line of 79 columns.
 *
 * @param note What stands at the end of the line; the step that the job is at unless told otherwise.
 */
export function progressBar(job: Job, note: string = job.progress.step): string {
  const { progress } = job;
  const { percent } = progress;
  const filled = Math.floor(barColumns * percent / 100);
  const bar = "#".repeat(filled) + "-".repeat(barColumns - filled);
  const numbers = [`${percent}%`, amount(progress), timeLeft(progress)].filter(Boolean).join(", ");
  return fitColumns(`${jobName(job)} [${bar}] ${numbers}: ${oneLine(note)}`, columns);
}

function amount({ done, total, unit }: Progress): string {
  if (total === null && done === 0) return "";
  compact ??= new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const figure = (value: number) => unit === "bytes" ? formatBytes(value) : compact!.format(value);
  const figures = total === null ? figure(done) : `${figure(done)} of ${figure(total)}`;
  return unit && unit !== "bytes" ? `${figures} ${unit}` : figures;
}

function timeLeft({ eta_seconds }: Progress): string {
  return typeof eta_seconds === "number" ? `${readableDuration(eta_seconds)} left` : "";
}
