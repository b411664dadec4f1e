/** Thrown by a statement that has nothing to be made of: there is no view to rename, say. */
export class Impossible extends Error {}

/** Closed choices, made one after the other out of the numbers that a statement was drawn with. */
export class Draw {
  readonly #numbers: readonly number[];
  #next = 0;

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  number(): number {
    const place = this.#next++;
    return this.#numbers[place % this.#numbers.length]! + Math.floor(place / this.#numbers.length) * 3;
  }

  of<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Impossible();
    return list[this.number() % list.length]!;
  }

  some<T>(list: readonly T[], most: number): T[] {
    const count = 1 + this.number() % most;
    const start = this.number();
    return list.slice(0, count).map((_, i) => list[(start + i) % list.length]!);
  }

  maybe(text: string): string {
    return this.number() % 2 === 1 ? text : "";
  }

  /** A name for something: from a small pool, so that what is dropped is sometimes followed by another of its name. */
  name(): string {
    return this.of(names);
  }
}

const names = [
  ...["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"],
  ...["nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"],
  ...[`"Odd Name"`, `"order"`, `"it's"`],
];
