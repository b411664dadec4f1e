import { levenshteinDistance } from "deno-std/text/levenshtein_distance.js";

/** What a plan names and the database does not have; a `field` is named by a request. */
export type MissingName = { kind: string; name: string };

/** What there is; `functions` and `signatures` go together, place by place. */
export type ExistingNames = {
  fields?: string[];
  schemas?: string[];
  tables?: string[];
  enums?: string[];
  functions?: string[];
  signatures?: string[];
};

/** How many names are offered for one. */
const maxOffered = 3;
/** How many letters of names one request compares, so that it stays far below the CPU time that the platform grants. */
const maxLetters = 5_000_000;

/**
 * For each missing name those of the same kind that it may have meant, the nearest first: a few letters apart, or one
 * within the other. A signature is answered with signatures. When too many names are missing, the last ones get none.
 */
export function nearestNames(missing: MissingName[], existing: ExistingNames): (MissingName & { nearest: string[] })[] {
  const kinds: Record<string, Candidate[] | undefined> = {
    field: existing.fields?.map(byName),
    schema: existing.schemas?.map(byName),
    table: existing.tables?.map(byName),
    enum: existing.enums?.map(byName),
    function: [...new Set(existing.functions)].map(byName),
    signature: existing.functions?.map((name, place) => ({
      key: name.toLowerCase(),
      offered: existing.signatures![place]!,
    })),
  };
  let letters = 0;
  const distanceOf = (a: string, b: string) => {
    letters += a.length + b.length;
    return levenshteinDistance(a, b);
  };
  return missing.map(({ kind, name }) => {
    const [bare, isSignature] = kind === "function" && name.includes("(")
      ? [name.slice(0, name.indexOf("(")).trim(), true]
      : [name, false];
    const dot = bare.indexOf(".");
    // A plan says its schema apart from the names.
    const plain = existing.schemas?.includes(bare.slice(0, dot)) ? bare.slice(dot + 1) : bare;
    const wanted = plain.toLowerCase();
    const near: { offered: string; distance: number; whole: number }[] = [];
    for (const { key, offered } of kinds[isSignature ? "signature" : kind] ?? []) {
      const limit = Math.max(1, Math.floor(Math.max(key.length, wanted.length) / 3));
      const contained = contains(key, wanted) || contains(wanted, key);
      if (!contained && Math.abs(key.length - wanted.length) > limit) continue;
      if (letters > maxLetters) break;
      const distance = distanceOf(key, wanted);
      if (!contained && distance > limit) continue;
      near.push({ offered, distance, whole: isSignature ? distanceOf(offered, name) : distance });
    }
    near.sort((a, b) => a.distance - b.distance || a.whole - b.whole || (a.offered < b.offered ? -1 : 1));
    return { kind, name, nearest: near.slice(0, maxOffered).map(({ offered }) => offered) };
  });
}

type Candidate = { key: string; offered: string };

const byName = (name: string): Candidate => ({ key: name.toLowerCase(), offered: name });

/** A word within a longer name; shorter ones are in too many. */
const contains = (name: string, word: string) => word.length >= 4 && name.includes(word);
