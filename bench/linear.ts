/** The straight line that fits figures best which come at equal distances: how much it rises from one to the next. */
export function linear(figures: number[]): { slope: number; mean: number } {
  const mean = figures.reduce((sum, figure) => sum + figure, 0) / figures.length;
  const middle = (figures.length - 1) / 2;
  const products = figures.reduce((sum, figure, index) => sum + (index - middle) * (figure - mean), 0);
  const squares = figures.reduce((sum, _figure, index) => sum + (index - middle) ** 2, 0);
  return { slope: squares === 0 ? 0 : products / squares, mean };
}
