/** The path below the function's name. The gateway keeps that in the path, some versions of the CLI do not. */
export const pathOf = (request: Request): string =>
  new URL(request.url).pathname.replace(/^(\/functions\/v1)?\/migration-guard(?=\/|$)/, "") || "/";
