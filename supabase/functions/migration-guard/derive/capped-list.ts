/** How many items are kept: more than any migration has that somebody wrote, few enough to be answered. */
const most = 5000;

/** A list that counts what no longer fits. */
export class CappedList<Item> {
  readonly items: Item[] = [];
  left = 0;
  firstLeft: Item | undefined;

  push(item: Item): void {
    if (this.items.length < most) this.items.push(item);
    else {
      this.left++;
      this.firstLeft ??= item;
    }
  }
}
