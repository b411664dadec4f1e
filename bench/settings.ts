import { availableParallelism } from "node:os";

/** What an instance of the platform has, and what keeps the bench's own doings out of what is measured. */
export const serverSettings = {
  wal_level: "logical",
  // As many parallel workers as processors, half of them for one query.
  max_parallel_workers: String(availableParallelism()),
  max_parallel_workers_per_gather: String(Math.max(1, Math.floor(availableParallelism() / 2))),
  shared_buffers: "1GB",
  maintenance_work_mem: "256MB",
  // No checkpoint but the bench's own, between runs.
  max_wal_size: "64GB",
  checkpoint_timeout: "1d",
  // The bench vacuums, between runs.
  autovacuum: "off",
  // The machine's disk is not what is measured: files are written as far as the system's cache.
};
