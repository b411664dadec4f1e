/** What `/metrics` shows: the name of each metric, its type, and what it says to whoever reads it. `docs/metrics.md` lists the same. */
export const metrics = {
  migration_guard_build_info: {
    type: "gauge",
    help: "Always 1: its labels tell the version of the function, of its SQL and of Postgres.",
  },
  migration_guard_jobs: { type: "gauge", help: "Jobs on record, by kind and by what has become of them." },
  migration_guard_job_duration_seconds: {
    type: "histogram",
    help: "How long jobs ran that have ended, from their first start.",
  },
  migration_guard_job_queue_seconds: {
    type: "histogram",
    help: "How long jobs were queued before a worker first claimed them.",
  },
  migration_guard_oldest_queued_job_age_seconds: {
    type: "gauge",
    help: "How long the oldest job has waited that is queued now; 0 when none is.",
  },
  migration_guard_copied_bytes_total: {
    type: "counter",
    help: "Bytes of all tables that were ever copied into a backup, those cleaned up included.",
  },
  migration_guard_backups: { type: "gauge", help: "Backups that are kept, by the state that was recorded last." },
  migration_guard_backup_age_seconds: { type: "gauge", help: "Time since a backup was taken." },
  migration_guard_backup_size_bytes: { type: "gauge", help: "Size of a backup's tables when it was taken." },
  migration_guard_backup_intact: {
    type: "gauge",
    help: "1 when the last verification found the backup whole, 0 when it did not; absent before the first.",
  },
  migration_guard_backup_verified_timestamp_seconds: {
    type: "gauge",
    help: "When a backup was last verified, as Unix time; absent before the first verification.",
  },
  migration_guard_backup_retention_remaining_days: {
    type: "gauge",
    help:
      "Days until a backup has been kept as long as its plan says, negative when that is over; absent until the migration is signed off.",
  },
} as const satisfies Record<string, { type: "counter" | "gauge" | "histogram"; help: string }>;
