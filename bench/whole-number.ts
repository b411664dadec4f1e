/** The number that an option gives. @throws When it is no whole number within the limits. */
export function wholeNumber(name: string, text: string, { least = 1, most = 100_000_000 } = {}): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < least || number > most) {
    throw new Error(`--${name}=${text}: it takes whole numbers from ${least} to ${most}.`);
  }
  return number;
}
