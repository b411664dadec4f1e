import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Folder of the programs of a Postgres that Debian's packages have installed, and that has some file besides. */
export function debianBinaries(file = "bin/postgres"): string | undefined {
  const folder = "/usr/lib/postgresql";
  const versions = existsSync(folder) ? readdirSync(folder) : [];
  const found = versions.find((version) =>
    [file, "bin/initdb"].every((name) => existsSync(join(folder, version, name)))
  );
  return found && join(folder, found, "bin");
}
