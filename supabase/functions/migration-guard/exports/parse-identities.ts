const alphabet = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
const form = /^(AGE-SECRET-KEY-|AGE-SECRET-KEY-PQ-)1([02-9AC-HJ-NP-Z]{58})$/;

/**
 * The age identities in a text, with blanks, line ends or commas between, each once; lines with `#`, as in a file of `age-keygen`, are
 * comments. `undefined` when something else is there, or comments alone. Without the age package, which takes long to load.
 */
export function parseIdentities(text: string): string[] | undefined {
  const words = text.replace(/^\s*#.*$/gm, "").split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0 && text.trim() !== "" || !words.every(isIdentity)) {
    return undefined;
  }
  return [...new Set(words)];
}

function isIdentity(word: string): boolean {
  const [, prefix, data] = form.exec(word) ?? [];
  return prefix !== undefined &&
    hasBech32Checksum(prefix.toLowerCase(), [...data!].map((c) => alphabet.indexOf(c)));
}

/** As BIP 173 defines it. */
function hasBech32Checksum(prefix: string, data: number[]): boolean {
  const codes = [...prefix].map((letter) => letter.charCodeAt(0));
  let sum = 1;
  for (const value of [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31), ...data]) {
    const top = sum >>> 25;
    sum = (sum & 0x1ffffff) << 5 ^ value;
    [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3].forEach((
      term,
      bit,
    ) => sum ^= top >> bit & 1 ? term : 0);
  }
  return sum === 1;
}
