import type { Reporter, TestModule } from "vitest/node";

/** Ends a run with one plain line that counts the tests, and names each skipped one with its reason. */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]) {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      if (module.state() === "failed" && [...module.children.allTests()].length === 0) count.failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "pending") count.failed++;
        else count[result.state]++;
        if (result.state === "skipped") console.log(`skipped: ${test.fullName}: ${result.note ?? "no reason given"}`);
      }
    }
    // vitest prints its own summary in the same turn.
    setTimeout(() => {
      console.log(
        `\n${count.passed} passed, ${count.failed} failed${count.skipped ? `, ${count.skipped} skipped` : ""}`,
      );
    });
  }
}
