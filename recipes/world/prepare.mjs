// Makes a bank of picture cut-outs with their words: OUT/cutouts/<style>/*.png, OUT/bank.json and OUT/NOTICE.
//
//   node recipes/world/prepare.mjs OUT                  256 px: all sources
//   node recipes/world/prepare.mjs OUT --size 1024      vector sources only
//   node recipes/world/prepare.mjs OUT --sheets         contact sheets of a bank that is there already
//
// The pictures come from npm packages with exact versions and digests; the result depends on those and on the lists
// beside this file alone. The last line printed is a digest of names, words and pixels.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { apart, cutFile, cutVector, measure } from './draw.mjs';
import { install } from './install.mjs';
import { letters } from './letters.mjs';
import { notice } from './notice.mjs';
import { emojiNouns, forms, slug, synonyms } from './nouns.mjs';
import { sheets } from './sheets.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const MODULES = path.join(HERE, 'node_modules');
const STYLES = ['3d', 'flat', 'cartoon', 'outlined', 'ink', 'line icon', 'solid icon', 'letter'];
/** Pictures of the 3D package have this side; larger banks leave them out. */
const LARGEST_3D = 256;
/** Drawings of one noun and colour in one style: flat designs that differ too much average to mush. */
const AT_MOST = { flat: 2, 'line icon': 4, 'solid icon': 4, letter: 8 };
/** Difference hashes of one noun, colour and style that differ in no more than this many of 64 bits are twins. */
const TWINS = 3;
/** Country flags are taken from one set: those in the 3D package are not Microsoft's, and their origin is not named. */
const FLAGS = 'twemoji';
const WORKERS = 2;

const require = createRequire(path.join(HERE, 'prepare.mjs'));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { size: { type: 'string', default: '256' }, sheets: { type: 'boolean', default: false } },
});
const size = Number(values.size);
if (positionals.length !== 1 || !(Number.isInteger(size) && size >= 16 && size <= 2048)) {
  console.error('usage: node prepare.mjs OUT [--size 256] | node prepare.mjs OUT --sheets');
  process.exit(2);
}
const out = path.resolve(positionals[0]), part = `${out}.part`;

try {
  await install(HERE);
  const sharp = require('sharp');
  sharp.concurrency(1);
  if (values.sheets) await sheets(sharp, out);
  else await make(sharp);
} catch (error) {
  await rm(part, { recursive: true, force: true });
  console.error(`prepare.mjs: ${error.message}`);
  process.exit(1);
}

async function make(sharp) {
  if (existsSync(out) && (await readdir(out)).length && !existsSync(path.join(out, 'bank.json'))) throw new Error(`${out} is not empty and holds no bank.json: name another folder`);
  const json = async (...place) => JSON.parse(await readFile(path.join(...place), 'utf8'));
  const [words, icons, stop, allSources] = await Promise.all(['words', 'icons', 'stop', 'sources'].map((name) => json(HERE, `${name}.json`)));
  const emoji = await json(MODULES, 'emojibase-data/en/data.json');
  const sources = [];
  for (const source of allSources) {
    if (source.kind === 'pictures' && size > LARGEST_3D) continue;
    const { version, license } = await json(MODULES, source.package, 'package.json');
    if (license !== source.licence) throw new Error(`${source.package}@${version} is ${license}, sources.json says ${source.licence}: check it and correct sources.json`);
    sources.push({ ...source, version, ...(await load(source, emoji)) });
  }
  const nouns = gather(sources, emojiNouns(emoji, words, stop, codePoints), words, icons, stop);
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  for (const style of STYLES) await mkdir(path.join(part, 'cutouts', slug(style)), { recursive: true });

  let next = 0;
  const chosen = new Array(nouns.length);
  await Promise.all(Array.from({ length: WORKERS }, async () => {
    while (next < nouns.length) {
      const at = next++;
      chosen[at] = await choose(sharp, nouns[at], stop);
      if (next % 200 === 0) console.log(`  ${next} of ${nouns.length} nouns`);
    }
  }));

  const report = { kept: {}, dropped: { tile: [], twin: [], surplus: [], empty: [] } };
  const digest = createHash('sha256');
  const index = [];
  for (const [at, noun] of nouns.entries()) {
    const { kept, dropped } = chosen[at];
    for (const { why, name } of dropped) report.dropped[why].push(name);
    if (!kept.length) continue;
    const names = new Set();
    for (const job of kept) {
      const stem = `cutouts/${slug(job.style)}/${slug(noun.noun)}${job.colour ? `-${job.colour}` : ''}`;
      const rivals = sources.filter((source) => stylesOf(source).includes(job.style)).length > 1;
      let name = rivals ? `${stem}-${job.source.id}` : stem;
      for (let i = 2; names.has(name); i++) name = `${rivals ? `${stem}-${job.source.id}` : stem}-${i}`;
      names.add(name);
      job.target = `${name}.png`;
      report.kept[job.target] = `${job.source.id}:${job.name}`;
      await writeFile(path.join(part, job.target), job.png);
    }
    const styles = new Set(kept.map((job) => job.style));
    const core = words.core.includes(noun.noun);
    if (core && styles.size < 4) console.log(`  core noun in ${styles.size} styles only: ${noun.noun} (${[...styles].join(', ')})`);
    index.push({
      ...forms(noun.noun, words),
      synonyms: synonyms(noun.noun, words),
      group: noun.group,
      core: core && (styles.size >= 4 || size > LARGEST_3D),
      flip: !noFlip(noun, words),
      turn: !noTurn(noun, words),
      cutouts: kept.map((job) => ({ file: job.target, style: job.style, source: job.source.id, colour: job.colour, tint: Boolean(job.source.tint), mean: job.found.mean })),
    });
    digest.update(JSON.stringify(index.at(-1)));
    for (const job of kept) digest.update(job.found.digest);
  }
  checkWords(index);
  const missing = words.core.filter((noun) => !index.some((entry) => entry.noun === noun));
  if (missing.length) console.log(`  core nouns without a picture: ${missing.join(', ')}`);

  const used = sources.filter((source) => index.some(({ cutouts }) => cutouts.some((cutout) => cutout.source === source.id)));
  const listed = used.map(({ id, package: name, version, licence, author, link }) => ({ id, package: name, version, licence, author, link }));
  digest.update(JSON.stringify(listed)).update(String(size));
  const bank = { imagen_bank: 1, size, digest: digest.digest('hex').slice(0, 16), sources: listed, nouns: index };
  await writeFile(path.join(part, 'bank.json'), layOut(bank));
  await writeFile(path.join(part, 'NOTICE'), notice(used));
  await copyFile(path.join(HERE, 'grammar.toml'), path.join(part, 'grammar.toml'));
  await writeFile(path.join(part, 'report.json'), `${JSON.stringify(report, null, 1)}\n`);
  const old = `${out}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(out)) await rename(out, old);
  await rename(part, out);
  await rm(old, { recursive: true, force: true });

  const all = index.flatMap(({ cutouts }) => cutouts);
  for (const style of STYLES) console.log(`  ${style.padEnd(10)} ${all.filter((cutout) => cutout.style === style).length}`);
  console.log(`dropped: ${Object.entries(report.dropped).map(([why, list]) => `${list.length} ${why}`).join(', ')}`);
  console.log(`${all.length} cut-outs of ${size} px, ${index.length} nouns, ${index.filter(({ core }) => core).length} of them core`);
  console.log(`digest ${bank.digest}`);
}

/** Code points in lower-case hexadecimal without leading zeros and without variation selector and end-of-tag mark. */
function codePoints(name) {
  return name.toLowerCase().split(/[-_]/).map((word) => word.replace(/^0+/, '')).filter((word) => word !== 'fe0f' && word !== 'e007f').join('-');
}

/** What a source holds: `byNoun` for fonts, `byCode` for emoji, `line` and `solid` (base name -> full names) for icons. */
async function load(source, emoji) {
  const folder = path.join(MODULES, source.package);
  if (source.kind === 'font') return { byNoun: await letters(require('opentype.js'), folder, source) };
  if (source.kind === 'pictures') {
    const byCode = new Map();
    // The longer of two spellings carries the variation selector: the fully qualified, coloured picture.
    for (const file of (await readdir(path.join(folder, 'assets'))).sort((a, b) => b.length - a.length || (a < b ? -1 : 1))) {
      const code = codePoints(path.parse(file).name);
      if (!byCode.has(code)) byCode.set(code, [{ name: code, file: path.join(folder, 'assets', file) }]);
    }
    return { byCode };
  }
  const set = JSON.parse(await readFile(path.join(folder, 'icons.json'), 'utf8'));
  const get = (name) => {
    const icon = { left: 0, top: 0, width: set.width ?? 16, height: set.height ?? 16, ...(set.icons[name] ?? {}) };
    return { name, icon };
  };
  const names = Object.keys(set.icons).filter((name) => !set.icons[name].hidden).sort();
  if (source.kind === 'emoji') {
    const byCode = new Map();
    const chars = existsSync(path.join(folder, 'chars.json')) ? JSON.parse(await readFile(path.join(folder, 'chars.json'), 'utf8')) : {};
    for (const [code, name] of Object.entries(chars)) if (set.icons[name] && !byCode.has(codePoints(code))) byCode.set(codePoints(code), [get(name)]);
    // A set without code points: its names are compared with Unicode's. "-1" is its first drawing, of people the light skin.
    if (!byCode.size) {
      const bySlug = new Map(emoji.filter(({ group }) => group !== undefined).map((entry) => [slug(entry.label), entry]));
      for (const name of names) {
        const entry = bySlug.get(name) ?? bySlug.get(name.replace(/-\d$/, '')) ?? bySlug.get(name.replace(/-face(-\d)?$/, ''));
        if (!entry) continue;
        const code = codePoints(entry.hexcode);
        if (byCode.has(code) && entry.group < 2) continue;
        byCode.set(code, [...(byCode.get(code) ?? []), get(name)]);
      }
    }
    return { byCode };
  }
  const bases = { line: new Map(), solid: new Map() };
  for (const name of names) {
    if (source.not?.some((end) => name.endsWith(end))) continue;
    const kind = ['line', 'solid'].filter((one) => source[one] && name.endsWith(source[one].slice(1))).sort((a, b) => source[b].length - source[a].length)[0];
    if (!kind) continue;
    const base = name.slice(0, name.length - source[kind].length + 1).replace(/-0?1$/, '');
    bases[kind].set(base, [...(bases[kind].get(base) ?? []), get(name)]);
  }
  return { bases };
}

function stylesOf(source) {
  return source.kind === 'icons' ? ['line', 'solid'].filter((one) => source[one]).map((one) => `${one} icon`) : [source.style];
}

/** Nouns in alphabetical order, each with its candidate pictures in order of preference. */
function gather(sources, named, words, icons, stop) {
  const nouns = new Map();
  const add = (noun, group, candidate) => {
    const { source, name, style } = candidate;
    const ways = [source.id, `${source.id}:${name}`, `${source.id}/${style.split(' ')[0]}`];
    if (stop.pictures[noun]?.some((entry) => ways.includes(entry))) return;
    if (!nouns.has(noun)) nouns.set(noun, { noun, group, candidates: [] });
    nouns.get(noun).candidates.push(candidate);
  };
  const black = new Set(named.filter(({ colour }) => colour === 'black').map(({ noun }) => noun));
  for (const { code, label, noun, colour, group, country } of named) {
    for (const source of sources) {
      if (!source.byCode || (country && source.id !== FLAGS)) continue;
      // One-coloured drawings of a coloured thing: the black one, where there is one.
      if (source.tint && colour && colour !== 'black' && black.has(noun)) continue;
      for (const found of source.byCode.get(code) ?? []) add(noun, group, { ...found, label, colour: source.tint ? null : colour, style: source.style, source });
    }
  }
  const wanted = [...nouns.values()]
    .filter(({ noun, group }) => icons.bases[noun] || words.core.includes(noun) || !['face', 'person', 'hand', 'flag', 'symbol'].includes(group))
    .map(({ noun, group }) => [noun, group, icons.bases[noun] ?? [slug(noun)]]);
  for (const [noun, [group, ...bases]] of Object.entries(icons.only)) wanted.push([noun, group, bases.length ? bases : [slug(noun)]]);
  const iconSets = sources.filter(({ kind }) => kind === 'icons');
  for (const [noun, group, bases] of wanted) {
    for (const base of bases) {
      // "mdi:food-apple" is one picture of one set, "apple" the base name in all of them.
      const [id, exact] = base.includes(':') ? base.split(':') : [];
      for (const source of iconSets.filter((set) => !id || set.id === id)) {
        for (const kind of ['line', 'solid']) {
          const found = exact ? [...source.bases[kind].values()].flat().filter(({ name }) => name === exact) : source.bases[kind].get(base) ?? [];
          if (found.length) add(noun, group, { ...found[0], label: base, colour: null, style: `${kind} icon`, source });
        }
      }
    }
  }
  for (const source of sources) {
    for (const [noun, found] of source.byNoun ?? []) add(noun, 'letter', { ...found, label: noun, colour: null, style: source.style, source });
  }
  return [...nouns.values()].sort((a, b) => (a.noun < b.noun ? -1 : 1));
}

/** Draws a noun's pictures in order of preference; leaves out tiles, twins and what goes beyond the number of drawings. */
async function choose(sharp, noun, stop) {
  const kept = [], dropped = [];
  const mayFill = stop['may fill their square'].includes(noun.noun) || noun.group === 'flag';
  for (const job of noun.candidates) {
    const name = `${noun.noun}: ${job.source.id}:${job.name}`;
    const same = kept.filter((other) => other.style === job.style && other.colour === job.colour);
    const again = job.source.kind === 'icons' && same.some((other) => other.source === job.source);
    if (again || same.length >= (AT_MOST[job.style] ?? 2)) {
      dropped.push({ why: 'surplus', name });
      continue;
    }
    const picture = job.file ? await cutFile(sharp, job.file, size) : await cutVector(sharp, job.icon, size);
    const found = picture && measure(picture);
    const why = !found ? 'empty' : found.tile && !mayFill && !job.source.tint ? 'tile' : same.some((other) => apart(other.found.hash, found.hash) <= TWINS) ? 'twin' : null;
    if (why) {
      dropped.push({ why, name });
      continue;
    }
    const png = await sharp(picture.data, { raw: { width: picture.width, height: picture.height, channels: 4 } }).png({ compressionLevel: 6 }).toBuffer();
    kept.push({ ...job, found, png });
  }
  return { kept: kept.sort((a, b) => STYLES.indexOf(a.style) - STYLES.indexOf(b.style)), dropped };
}

/** Every word names one noun. */
function checkWords(index) {
  const meant = new Map();
  for (const { noun, synonyms: others } of index) {
    for (const word of [noun, ...others.map((other) => other.noun)]) {
      if (meant.has(word)) throw new Error(`words.json: "${word}" names both "${meant.get(word)}" and "${noun}"`);
      meant.set(word, noun);
    }
  }
}

function noFlip({ noun, group }, words) {
  return ['hand', 'flag', 'letter'].includes(group) || words.still.includes(noun);
}

function noTurn({ noun, group }, words) {
  return ['building', 'vehicle', 'flag', 'place'].includes(group) && !words['may turn'].includes(noun) || words.upright.includes(noun);
}

/** One line a noun, so that two banks can be compared. */
function layOut(bank) {
  const { nouns, sources, ...head } = bank;
  const lines = (list) => list.map((entry) => `  ${JSON.stringify(entry)}`).join(',\n');
  return `${JSON.stringify(head).slice(0, -1)},\n "sources": [\n${lines(sources)}\n ],\n "nouns": [\n${lines(nouns)}\n ]}\n`;
}
