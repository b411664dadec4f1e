/** One spelling of the forms that a version has; the database has the last word. */
export const versionPattern = /^(v(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5}))?|[0-9]{14})$/;
