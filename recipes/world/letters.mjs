// Letters and digits from fonts: each glyph's outline as a drawing, in the form that icon sets have.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LETTERS } from './nouns.mjs';

/** Units of an em: the outlines are asked for at this height, which changes nothing but the digits after the point. */
const EM = 1000;

/** Noun to drawing, for every letter and digit. Letters are capitals unless the source says `small`. */
export async function letters(opentype, folder, source) {
  const name = `${path.basename(source.package)}-latin-${source.weight}-normal.woff`;
  const bytes = await readFile(path.join(folder, 'files', name));
  const font = opentype.parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const byNoun = new Map();
  for (const noun of LETTERS) {
    const character = source.small ? noun.at(-1) : noun.at(-1).toUpperCase();
    if (!font.charToGlyphIndex(character)) throw new Error(`${source.package} has no "${character}": take another font`);
    const outline = font.charToGlyph(character).getPath(0, 0, EM);
    const { x1, y1, x2, y2 } = outline.getBoundingBox();
    const icon = { left: x1, top: y1, width: x2 - x1, height: y2 - y1, body: `<path d="${outline.toPathData(2)}"/>` };
    byNoun.set(noun, { name: character, icon });
  }
  return byNoun;
}
