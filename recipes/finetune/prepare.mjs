// Draws the Kameleon icons as a small captioned set: OUT/astronaut.png with OUT/astronaut.txt beside it, and so on.
//
//   node recipes/finetune/prepare.mjs data/badges
//
// The icons come from an npm package with an exact version, installed beside this file at the first run. Nothing but the
// style is asked of a folder like this one: put your own pictures and texts in its place.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SIZE = 256;
/** Names that say nothing of what is drawn, and characters that are somebody's. */
const LEFT_OUT = new RegExp(
  '-duo$|-file|^(man|woman)-\\d|^(airdrop-box|bluetooth|bank-check|boss-6|captain-shield|conversion|data-transfer|databse-network|delivery|' +
  'eco-tag|education-globe|enter-key|graph-magnifier|headset-2|house-location|love|mac-signal|money-.*|pokeball|power|predator|r2d2|settings-4|' +
  'shopping-4|smartphone-.*|spongebob|stamp-paper|start|transfer-cloud|upload-cloud-computer|wall-e|wii-remote|windows-coding|wrench-2)$',
);
/** Better words than the file's name. */
const WORDS = {
  'aid-kit': 'first aid kit', airconditioner: 'air conditioner', apartment: 'apartment building', 'battery-medium': 'battery', 'box-open': 'open box',
  'box-trolley': 'hand truck', 'businessman-globe': 'businessman and a globe', 'camera-front': 'camera', 'car-list': 'car and a clipboard',
  cart: 'shopping cart', chair: 'armchair', 'chart-pie': 'pie chart', chicken: 'roast chicken', 'coffee-paper-glass': 'paper coffee cup', cone: 'white cone',
  'construction-blueprint': 'blueprint', coupons: 'pair of scissors', crosshair: 'gun sight', dices: 'dice', 'download-cloud': 'cloud', drakkar: 'viking ship',
  drawer: 'chest of drawers', fireman: 'firefighter', 'frightened-smiley': 'frightened smiley', grinder: 'mortar', hat: 'top hat', 'heart-key': 'golden key',
  'heart-watch': 'watch with a heart', hook: 'crane hook', keyboard: 'piano keyboard', lockers: 'suitcase and a key', 'love-smiley': 'smiley in love',
  'map-pin': 'map with a pin', medicine: 'bottle of medicine', 'movie-film': 'film strip', 'nail-varnish': 'bottle of nail polish',
  'nuclear-mushroom': 'mushroom cloud', 'party-poppers': 'party popper', peace: 'peace sign', pen: 'paintbrush', 'pencil-ruler': 'pencil and a ruler',
  perfume: 'bottle of perfume', play: 'play button', plug: 'power socket', podium: 'trophy', pointer: 'paper plane', 'pounds-coin': 'pound coin',
  prism: 'crystal', 'quill-paper': 'quill', santa: 'santa claus', 'scale-weight': 'kitchen scale', 'script-paper': 'scroll', sea: 'sun over the sea',
  servers: 'server', skate: 'roller skate', sneakers: 'pair of sneakers', sprout: 'seedling in a hand', 'student-woman': 'student',
  'tease-smiley': 'smiley sticking out its tongue', 'telemarketer-woman': 'woman with a headset', 'tea-cup': 'cup of tea', theater: 'theater stage',
  towel: 'towel', 'truck-front': 'truck from the front', 'urban-woman': 'woman with red hair', vespa: 'motor scooter', 'wind-flag': 'windsock',
  'wind-vane': 'weathercock', 'wind-wheel': 'wind turbine', 'yin-yang': 'yin and yang',
};
/** What stands without "a". */
const BARE = new Set(['dice', 'eyeglasses', 'glasses', 'popcorn', 'santa claus', 'yin and yang']);
/** The colours of the discs. */
const COLOURS = [['red', 0xe04f5f], ['yellow', 0xfdbd40], ['blue', 0x23b7d3], ['green', 0x32bea6]];

if (process.argv.length !== 3) {
  console.error('usage: node prepare.mjs OUT');
  process.exit(2);
}
const out = path.resolve(process.argv[2]);
if (!existsSync(path.join(HERE, 'node_modules/sharp'))) {
  console.log('installing the pinned packages ...');
  const npm = spawnSync('npm', ['install', '--no-package-lock', '--no-audit', '--no-fund'], { cwd: HERE, stdio: 'inherit', shell: process.platform === 'win32' });
  if (npm.status !== 0) process.exit(1);
}
const sharp = createRequire(path.join(HERE, 'prepare.mjs'))('sharp');
const set = JSON.parse(await readFile(path.join(HERE, 'node_modules/@iconify-json/streamline-kameleon-color/icons.json'), 'utf8'));

await mkdir(out, { recursive: true });
let count = 0;
for (const [name, icon] of Object.entries(set.icons)) {
  if (LEFT_OUT.test(name)) continue;
  const plain = name.replace(/-\d+$/, '');
  const thing = WORDS[plain] ?? plain.replaceAll('-', ' ');
  const article = BARE.has(thing) ? '' : /^[aeiou](?!fo)/.test(thing) ? 'an ' : 'a ';
  const fill = parseInt(/fill="#([0-9a-f]{6})"/.exec(icon.body)[1], 16);
  const colour = COLOURS.reduce((near, other) => (distance(other[1], fill) < distance(near[1], fill) ? other : near))[0];
  const side = icon.width ?? set.width;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${side} ${side}" width="${SIZE}" height="${SIZE}">${icon.body}</svg>`;
  await sharp(Buffer.from(svg)).flatten({ background: '#ffffff' }).png().toFile(path.join(out, `${name}.png`));
  await writeFile(path.join(out, `${name}.txt`), `a ${colour} badge of ${article}${thing}\n`);
  count += 1;
}
console.log(`${count} pictures of ${SIZE}x${SIZE} in ${out}`);

/** How far two colours are apart. */
function distance(a, b) {
  return [16, 8, 0].reduce((sum, shift) => sum + (((a >> shift) & 255) - ((b >> shift) & 255)) ** 2, 0);
}
