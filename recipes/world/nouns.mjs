// From Unicode's emoji names and the lists beside this file to nouns as a person would type them. Pure: reads no files.

const PERSON = /^(person|man|woman|face)$/;
const PREPOSITION = / (?:with|without|in|on|of|at|behind|under|over|from|to|and a|but) /;
const GROUPS = { 3: 'animal', 4: 'food', 5: 'place', 6: 'object', 7: 'object', 0: 'face', 1: 'person', 8: 'symbol', 9: 'flag' };
const SUBGROUPS = {
  14: 'symbol', 15: 'symbol', 16: 'hand', 17: 'hand', 18: 'hand', 19: 'hand', 20: 'hand', 21: 'hand', 28: 'person', 40: 'plant', 41: 'plant', 49: 'object', 50: 'nature', 51: 'building', 52: 'building', 53: 'building',
  54: 'vehicle', 55: 'vehicle', 56: 'vehicle', 57: 'object', 58: 'object', 59: 'weather', 62: 'sport', 65: 'clothing', 66: 'music', 67: 'music', 68: 'music', 78: 'tool', 79: 'tool',
};

/** What is drawn from fonts. */
export const LETTERS = [...[...'0123456789'].map((digit) => `digit ${digit}`), ...[...'abcdefghijklmnopqrstuvwxyz'].map((letter) => `letter ${letter}`)];
/** A letter or digit by any of its names; it is "the letter a" and has no plural, as "letter as" says nothing. */
const LETTER = /^(?:letter [a-z]|(?:digit|number) \d)$/;

/** Which emoji stay, with noun, colour and group: [{ code, label, noun, colour, group }]. */
export function emojiNouns(emoji, words, stop, codePoints) {
  const stopped = new Set(Object.values(stop.emoji).flat());
  const found = [];
  for (const entry of emoji) {
    const { label, group, subgroup } = entry;
    if (group === undefined || group === 2 || stopped.has(label)) continue;
    if (group === 8 && !stop['symbols that stay'].includes(label)) continue;
    if (group === 9 && subgroup === 97 && !stop['flags that stay'].includes(label)) continue;
    if (group === 1 && (subgroup > 29 || /: facing right$/.test(label))) continue;
    const [noun, colour] = (words.names[label] ?? derived(label, words)).split('|');
    if (!noun) continue;
    found.push({ code: codePoints(entry.hexcode), label, noun, colour: colour ?? null, group: groupOf(noun, group, subgroup, words), country: group === 9 && subgroup !== 97 });
  }
  return found;
}

function groupOf(noun, group, subgroup, words) {
  const listed = Object.entries(words.groups).find(([, nouns]) => nouns.includes(noun));
  return listed?.[0] ?? SUBGROUPS[subgroup] ?? GROUPS[group] ?? 'object';
}

function derived(label, words) {
  const flag = /^flag: (.*)$/.exec(label);
  if (flag) return `flag of ${country(flag[1], words)}`;
  const person = /^(person|man|woman): (.*)$/.exec(label);
  if (person) return person[2] === 'bald' ? `bald ${person[1]}` : `${person[1]} with ${person[2] === 'beard' ? 'a beard' : plain(person[2])}`;
  let text = label;
  for (const [short, long] of Object.entries(words.words)) {
    if (text === short || text.endsWith(` ${short}`) || text.startsWith(`${short} `) || text.includes(` ${short} `)) text = text.replace(short, long);
  }
  return plain(text).replace(/\ba a\b/, 'a');
}

function country(name, words) {
  const full = plain(name);
  const short = words.countries[full] ?? full.replace(/ \(.*\)$/, '').replace(/ sar china$/, '').replace(/^st\. /, 'saint ').replace(/&/g, 'and').replace(' - ', ' ');
  const typed = short.normalize('NFD').replace(/\p{M}/gu, '');
  return words.the.includes(typed) ? `the ${typed}` : typed;
}

/** What else a noun is called: what words.json says, and of "flag of japan" also "japan flag", of "digit 3" also "number 3". */
export function synonyms(noun, words) {
  const flag = /^flag of (?:the )?(.*)$/.exec(noun);
  const digit = /^digit (\d)$/.exec(noun);
  return (words.also[noun] ?? (flag ? [`${flag[1]} flag`] : digit ? [`number ${digit[1]}`] : [])).map((other) => forms(other, words));
}

function plain(text) {
  return text.toLowerCase().replace(/[’‘]/g, "'").replace(/[“”]/g, '').replace(/\s+/g, ' ').trim();
}

/** { noun, plural, article } of a noun phrase. */
export function forms(noun, words) {
  return { noun, plural: plural(noun, words), article: article(noun, words) };
}

function article(noun, words) {
  if (noun.startsWith('flag of ') || LETTER.test(noun)) return 'the';
  if (words.bare.includes(noun)) return '';
  if (words.an.includes(noun)) return 'an';
  return /^(?:[aeiou]|hour|x-ray)/.test(noun) && !/^(?:uni(?!n)|one-|euro|ewe|u-|ufo|use)/.test(noun) ? 'an' : 'a';
}

function plural(noun, words) {
  if (LETTER.test(noun)) return '';
  if (words.plural[noun]) return words.plural[noun];
  if (words.bare.includes(noun)) return noun;
  const at = PREPOSITION.exec(` ${noun} `)?.index;
  const head = at > 0 ? noun.slice(0, at - 1) : noun;
  const rest = noun.slice(head.length);
  const parts = head.split(' ');
  // "woman firefighter" has two plurals, "person running" and "face exhaling" have theirs in front.
  if (parts.length > 1 && PERSON.test(parts[0])) {
    const doing = parts.slice(1).some((part) => /ing$/.test(part));
    if (!doing && /man$/.test(parts[0])) return `${one(parts[0], words)} ${[...parts.slice(1, -1), one(parts.at(-1), words)].join(' ')}${rest}`;
    if (doing) return `${one(parts[0], words)} ${parts.slice(1).join(' ')}${rest}`;
  }
  return `${[...parts.slice(0, -1), one(parts.at(-1), words)].join(' ')}${rest}`;
}

function one(word, words) {
  if (words.plural[word]) return words.plural[word];
  const tail = word.split('-').at(-1);
  if (tail !== word && words.plural[tail]) return word.slice(0, -tail.length) + words.plural[tail];
  if (/(?:s|x|z|ch|sh)$/.test(word)) return `${word}es`;
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`;
  if (/(?:man|woman)$/.test(word) && !/human$/.test(word)) return `${word.slice(0, -2)}en`;
  return `${word}s`;
}

export const slug = (text) => text.toLowerCase().replace(/[’'“”.!():,&]/g, '').replace(/[^a-z0-9#*]+/g, '-').replace(/^-|-$/g, '');
