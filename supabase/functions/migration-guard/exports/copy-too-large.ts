/** A `copy` whose text is longer than was allowed. */
export class CopyTooLarge extends Error {
  readonly code = "copy_too_large";

  constructor(readonly maxBytes: number) {
    super(`The text of a copy is longer than ${maxBytes} bytes.`);
  }
}
