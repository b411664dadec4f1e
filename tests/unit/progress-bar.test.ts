import { expect, test } from "vitest";
import { jobOutcome } from "../../supabase/functions/migration-guard/job-outcome.ts";
import { progressBar } from "../../supabase/functions/migration-guard/progress-bar.ts";
import { textColumns } from "../../supabase/functions/migration-guard/text-columns.ts";
import type { Job } from "../../supabase/functions/migration-guard/schemas.ts";
import { someJob } from "../support/some-job.ts";

type Progress = Partial<Job["progress"]>;
const nothing = { step: "a", done: 0, total: null, unit: null, percent: 0, eta_seconds: null };

const bar = (progress: Progress, version = "v10.0") =>
  progressBar({ ...someJob, version, progress: { ...nothing, ...progress } });

test.for<[string, Progress]>([
  ["backup v10.0 [----------------] 0%: queued", { step: "queued", done: 0, total: null, percent: 0 }],
  ["backup v10.0 [########--------] 50%, 2 of 4: profiles", { step: "profiles", done: 2, total: 4, percent: 50 }],
  [
    "backup v10.0 [###-------------] 24%, 1.5 GB of 6.25 GB, 1m 39s left: profiles",
    { step: "profiles", done: 1.5e9, total: 6.25e9, percent: 24, unit: "bytes", eta_seconds: 99 },
  ],
  [
    "rollback v10.0 [###############-] 99%, 12.3K of 12.4K rows, 0s left: a",
    { step: "a", done: 12345, total: 12444, percent: 99, unit: "rows", eta_seconds: 0 },
  ],
  [
    "diff v10.0 [----------------] 0%, 7 statements: a",
    { step: "a", done: 7, total: null, percent: 0, unit: "statements", eta_seconds: null },
  ],
  ["verify v10.0 [################] 100%, 1 of 1: done", { step: "done", done: 1, total: 1, percent: 100 }],
])("%s", ([line, progress]) => {
  const kind = line.split(" ")[0] as typeof someJob.kind;
  expect(progressBar({ ...someJob, kind, progress: { ...nothing, ...progress } })).toBe(line.padEnd(79));
});

test("whatever the numbers and the names are, it is one line that fits 80 columns", () => {
  const widest = {
    done: 999_999_999,
    total: 999_999_999,
    percent: 100,
    unit: "statements",
    eta_seconds: 9_999_999,
  } as const;
  for (
    const step of [
      "",
      "a".repeat(500),
      "表".repeat(60),
      "e\u0301".repeat(90),
      "🦕".repeat(50),
      "a\r\n\x1b[2J\x07\u202eb",
    ]
  ) {
    for (const version of ["v1.0", "20261124000400"]) {
      const line = bar({ ...widest, step }, version);
      expect(textColumns(line)).toBe(79);
      expect(line).not.toMatch(/\p{Cc}|\p{Cf}/u);
    }
  }
  expect(bar({ step: "a".repeat(99), done: 0, total: 2, percent: 0 })).toMatch(/a…$/);
});

test("a finished job says after what time it ended, why, and whom to call", () => {
  const finished_at = "2026-01-01T00:02:04.4+00:00";
  expect(jobOutcome({ ...someJob, status: "succeeded", finished_at })).toBe("backup v10.0 succeeded after 2m 3s.");
  const verified = { ...someJob, kind: "verify", status: "succeeded", finished_at, result: { ok: false } } as const;
  expect(jobOutcome(verified)).toBe("verify v10.0 succeeded after 2m 3s: a check has FAILED, see its result.");
  expect(jobOutcome({ ...verified, result: { ok: true } })).toBe("verify v10.0 succeeded after 2m 3s.");
  const error = { code: "lock_timeout", message: "A table\nwas \x1b[31mlocked.", contacts: ["Ada", "Grace"] };
  expect(jobOutcome({ ...someJob, status: "failed", error, finished_at }))
    .toBe("backup v10.0 failed after 2m 3s: lock_timeout: A table was [31mlocked. Contacts: Ada, Grace");
  const rehearsed = {
    ...someJob,
    kind: "rollback",
    rehearse: true,
    status: "succeeded",
    finished_at,
  } as const;
  expect(jobOutcome(rehearsed)).toBe("rehearsal v10.0 succeeded after 2m 3s: all of it was undone.");
  expect(jobOutcome({ ...rehearsed, status: "failed", error }))
    .toContain("rehearsal v10.0 failed after 2m 3s: lock_timeout");
  expect(progressBar(rehearsed)).toMatch(/^rehearsal v10\.0 \[/);
  // It never began.
  const stopped = { code: "cancelled", message: "Somebody cancelled it." };
  expect(
    jobOutcome({ ...someJob, status: "cancelled", error: stopped, started_at: null, finished_at: someJob.created_at }),
  ).toBe("backup v10.0 cancelled after 0s: cancelled: Somebody cancelled it.");
});
