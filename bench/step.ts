/** Tells whoever waits what is being done. */
export function step(text: string): void {
  console.error(`${text} …`);
}
