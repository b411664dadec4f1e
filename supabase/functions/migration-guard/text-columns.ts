const none = /^\p{M}$/u;
const wide =
  /^[\p{Emoji_Presentation}\p{sc=Han}\p{sc=Hangul}\p{sc=Hiragana}\p{sc=Katakana}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]$/u;

/** How many columns of a terminal a text without control characters takes. */
export const textColumns = (text: string): number =>
  [...text].reduce((columns, letter) => columns + (none.test(letter) ? 0 : wide.test(letter) ? 2 : 1), 0);
