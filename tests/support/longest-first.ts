import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take minutes: begun last, they would keep one worker when all others are done. */
const longest = /rollback-property|rollback-kinds|rollback-found|hostile-names|api\/fuzz|sql\/(im|ex)ports/;

/** Begins with the files that take longest, and goes on in the usual order. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => longest.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}
