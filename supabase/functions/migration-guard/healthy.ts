import { productVersion } from "./version.ts";

/** The answer of `GET /health`. */
export const healthy = { status: "ok" as const, version: productVersion };
