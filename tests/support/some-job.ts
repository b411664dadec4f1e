import type { Job } from "../../supabase/functions/migration-guard/schemas.ts";

/** A running job, as the API shows it. */
export const someJob: Job = {
  id: "00000000-0000-4000-8000-000000000000",
  kind: "backup",
  rehearse: null,
  version: "v10.0",
  status: "running",
  progress: { step: "public.profiles", done: 0, total: 2, unit: "bytes", percent: 0, eta_seconds: null },
  result: null,
  error: null,
  actor: "default",
  created_at: "2026-01-01T00:00:00+00:00",
  started_at: "2026-01-01T00:00:01+00:00",
  finished_at: null,
};
