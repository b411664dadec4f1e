import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Folder of the example app. */
export const exampleFolder = join(import.meta.dirname, "..", "..", "examples", "coordinator-to-curator");

/** Text of one of the example's files. */
export const exampleFile = (...path: string[]) => readFileSync(join(exampleFolder, ...path), "utf8");

/** The plan of v10.0. */
export const examplePlan = JSON.parse(exampleFile("plan.json"));
