// Contact sheets of a bank: a row for each noun, a column for each style, the noun's name at the left.

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

const CELL = 64, GAP = 4, LABEL = 150, ROWS = 40;
/** Cells a style takes up. */
const COLUMNS = { '3d': 1, flat: 2, cartoon: 1, outlined: 2, ink: 2, 'line icon': 4, 'solid icon': 4 };
const FONTS = { letter: 8 };

/** OUT/sheets/core-01.png ...: the core nouns; letters.png: letters and digits; other-01.png ...: the rest, several nouns a row, one picture of each style. */
export async function sheets(sharp, out) {
  const bank = JSON.parse(await readFile(path.join(out, 'bank.json'), 'utf8'));
  const folder = path.join(out, 'sheets');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const groups = [...new Set(bank.nouns.map(({ group }) => group))];
  const core = groups.flatMap((group) => bank.nouns.filter((noun) => noun.core && noun.group === group));
  const rest = groups.flatMap((group) => bank.nouns.filter((noun) => !noun.core && noun.group === group && group !== 'letter'));
  const letters = bank.nouns.filter(({ group }) => group === 'letter');
  for (let at = 0; at * ROWS < core.length; at++) {
    await sheet(sharp, out, path.join(folder, `core-${String(at + 1).padStart(2, '0')}.png`), core.slice(at * ROWS, (at + 1) * ROWS), COLUMNS, 1);
  }
  if (letters.length) await sheet(sharp, out, path.join(folder, 'letters.png'), letters, FONTS, 1);
  const few = { '3d': 1, flat: 1, cartoon: 1, outlined: 1, ink: 1, 'line icon': 1, 'solid icon': 1 };
  for (let at = 0; at * ROWS * 2 < rest.length; at++) {
    await sheet(sharp, out, path.join(folder, `other-${String(at + 1).padStart(2, '0')}.png`), rest.slice(at * ROWS * 2, (at + 1) * ROWS * 2), few, 2);
  }
  console.log(`${core.length} core nouns, ${letters.length} letters and digits and ${rest.length} others on sheets in ${folder}`);
}

async function sheet(sharp, out, file, nouns, columns, across) {
  const total = Object.values(columns).reduce((a, b) => a + b, 0);
  const wide = LABEL + total * (CELL + GAP);
  const rows = Math.ceil(nouns.length / across);
  const layers = [];
  const text = [];
  for (const [i, noun] of nouns.entries()) {
    const left = (i % across) * wide, top = Math.floor(i / across) * (CELL + GAP);
    text.push(`<text x="${left + 4}" y="${top + 36}" font-family="sans-serif" font-size="14">${noun.noun.replace(/&/g, '&amp;')}</text>`);
    let column = 0;
    for (const [style, count] of Object.entries(columns)) {
      for (const [k, cutout] of noun.cutouts.filter((cutout) => cutout.style === style).slice(0, count).entries()) {
        const input = await sharp(path.join(out, cutout.file)).resize(CELL, CELL, { fit: 'contain', background: '#ffffff00' }).png().toBuffer();
        layers.push({ input, left: left + LABEL + (column + k) * (CELL + GAP), top });
      }
      column += count;
    }
  }
  const width = wide * across, height = rows * (CELL + GAP);
  layers.push({ input: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${text.join('')}</svg>`), left: 0, top: 0 });
  const png = await sharp({ create: { width, height, channels: 3, background: '#e8eef4' } }).composite(layers).png().toBuffer();
  await writeFile(file, png);
}
