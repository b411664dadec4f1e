/** Text as a terminal may show it: names and messages of the database may contain line breaks and control sequences. */
export const oneLine = (text: string): string => text.replace(/[\p{C}\p{Z}]+/gu, " ").trim();
