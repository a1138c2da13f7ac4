// From a Unicode emoji name to the sentences that a person would type for its picture.
//
// `captions(entry, parent, words, medium)` is pure: the name's grammar ("woman: medium skin tone, red hair",
// "family: man, woman, boy", "flag: Germany") is taken apart here, everything that is a matter of taste is data in
// words.json. It reads no files and knows nothing about pictures.

const TONE = / skin tone$/;
const PERSON = /^(?:deaf |old |older |pregnant )?(?:man|woman|person|boy|girl|child|baby|adult|face)\b/;
const NUMBER = { man: 'men', woman: 'women', person: 'people', boy: 'boys', girl: 'girls', adult: 'adults', child: 'children' };

/** The concept that skin tones vary: the name of the entry without tone, as the split's hash sees it. */
export const concept = (parent) => plain(parent.label);

/** Captions of one picture; the first is the canonical one. `medium` is e.g. "3d emoji", `ground` a colour or undefined for white. */
export function captions(entry, parent, words, medium, ground) {
  const all = ofThing(entry, parent, words, medium);
  if (!ground) return [...all, `${all[0]} on a white background`];
  // What is said of the thing, in four ways of saying what it stands on.
  const article = /^[aeiou]/.test(ground) ? 'an' : 'a';
  const ways = [`on ${article} ${ground} background`, `on ${ground}`, `in front of ${article} ${ground} wall`, `, ${ground} background`];
  return all.map((caption, i) => `${caption} ${ways[i === 0 ? 0 : i % ways.length]}`.replace(' ,', ','));
}

/** What is said of the thing itself. */
function ofThing(entry, parent, words, medium) {
  const { head, rest, tones } = takeApart(entry);
  const label = tones.length ? parent.label : entry.label;
  const bare = tidy(noun(head, rest, label, parent, words), words);
  const whole = words.phrases[label] ?? withArticle(bare, words.bare);
  const also = words.also[label] ?? [];
  const said = tones.length ? (phrase) => withTone(phrase, tones) : (phrase) => phrase;

  const out = [said(whole), said(bare), `a ${medium} of ${said(whole)}`, `${said(bare)} emoji`];
  const category = words.categories[String(parent.subgroup)];
  if (category) out.push(`${said(whole)}, ${category}`);
  if (tones.length) {
    const [first] = new Set(tones);
    out.push(`${bare}, ${tones.join(' and ')} skin`);
    if (new Set(tones).size === 1 && /^an? /.test(whole)) {
      out.push(`${/^[aeiou]/.test(first) ? 'an' : 'a'} ${first}-skinned ${bare}`);
    }
  } else if (parent.skins) {
    out.push(`${whole} with yellow skin`.replace(/ with (.*) with /, ' with $1 and '));
  }
  const tags = tagsOf(parent, bare);
  if (tags.length) out.push(`${said(whole)}, ${tags.join(', ')}`);
  for (const phrase of also) out.push(said(phrase), `a ${medium} of ${said(phrase)}`);
  if (bare.startsWith('flag of ')) out.push(`${bare.slice('flag of '.length)} flag`);
  if (bare.includes(' with a bald head')) out.push(said(whole.replace(/(man|woman|person) with a bald head/, 'bald $1')));
  const proper = properName(label);
  if (proper) out.push(proper);
  return [...new Set(out)];
}

/** "person: light skin tone, beard" -> head "person", rest ["beard"], tones ["light"]. */
function takeApart(entry) {
  const at = entry.label.indexOf(': ');
  if (at < 0) return { head: entry.label, rest: [], tones: [] };
  const parts = entry.label.slice(at + 2).split(', ');
  return {
    head: entry.label.slice(0, at),
    rest: parts.filter((part) => !TONE.test(part)),
    tones: parts.filter((part) => TONE.test(part)).map((part) => part.replace(TONE, '')),
  };
}

/** The noun phrase without article and without skin tone. */
function noun(head, rest, label, parent, words) {
  if (words.names[label]) return words.names[label];
  const { group, subgroup } = parent;
  if (head === 'flag') return `flag of ${country(rest.join(', '))}`;
  if (head === 'keycap') return `blue keycap with the ${keycap(rest[0])}`;
  if (head === 'family' && rest.length) return `family of ${together(rest)}`;
  if (head === 'kiss') return `${rest.length ? together(rest, true) : 'couple'} kissing`;
  if (head === 'couple with heart') return `${rest.length ? together(rest, true) : 'couple'} with a heart`;
  if (rest.length) return [head, ...rest.map((part) => feature(part))].join(' ');
  const blood = /^(\w+) button \(blood type\)$/.exec(head);
  if (blood) return `red button with the letters ${blood[1]}`;
  if (subgroup === 58 && /o’clock$|-thirty$/.test(head)) return `clock showing ${plain(head).replace('-', ' ')}`;
  if (group === 8 && (subgroup === 83 || subgroup === 84) && !/(sign|symbol|room)$/.test(head)) return `${head} sign`;
  if (subgroup === 87) return `${head} zodiac sign`;
  if (subgroup === 90 && !/sign$/.test(head)) return `${head} sign`;
  if (group === 9 && !/flag/.test(head)) return `flag of ${head}`;
  return head;
}

function feature(part) {
  if (part === 'facing right' || part === 'bald') return part === 'bald' ? 'with a bald head' : part;
  return part === 'beard' ? 'with a beard' : `with ${part}`;
}

function country(name) {
  const short = name.replace(/ \(.*\)$/, '').replace(/ SAR China$/, '').replace(' - ', ' ').replace(/^St\. /, 'Saint ');
  return short.replace(/&/g, 'and').replace(/, /g, ' and ');
}

function keycap(sign) {
  return sign === '#' ? 'hash sign' : sign === '*' ? 'asterisk' : `number ${sign}`;
}

/** ["man", "woman", "boy", "boy"] -> "a man, a woman and two boys". */
function together(people, noFirstArticle = false) {
  const runs = [];
  for (const person of people) {
    const last = runs.at(-1);
    if (last?.person === person) last.count += 1;
    else runs.push({ person, count: 1 });
  }
  const said = runs.map(({ person, count }, i) =>
    count > 1 ? `two ${NUMBER[person]}` : noFirstArticle && i === 0 ? person : `${person === 'adult' ? 'an' : 'a'} ${person}`);
  return said.length < 2 ? said[0] : `${said.slice(0, -1).join(', ')} and ${said.at(-1)}`;
}

function plain(text) {
  return text.toLowerCase().replace(/[’‘]/g, "'").replace(/[“”]/g, '').replace(/\s+/g, ' ').trim();
}

/** Lower case, straight quotes, and the articles inside that Unicode names leave out. */
function tidy(text, words) {
  let out = plain(text);
  for (const [short, long] of Object.entries(words.objects)) {
    if (out.endsWith(` ${short}`) || out.includes(` ${short} `)) out = out.replace(` ${short}`, ` ${long}`);
  }
  return out.replace(/^(woman|man) and (man|woman) /, '$1 and a $2 ');
}

/** "red apple" -> "a red apple"; plurals and the listed mass nouns stay bare. */
function withArticle(bare, bareWords) {
  if (bareWords.includes(bare) || /^(?:two|men|women|people|the) /.test(bare)) return bare;
  if (bare.startsWith('flag of ')) return `the ${bare}`;
  const head = bare.split(/ (?:with|without|in|on|of|at|behind|showing|under|over|from|facing|to) /)[0];
  const last = head.split(' ').at(-1);
  const plural = /s$/.test(last) && !/(?:ss|us|is|os|'s)$/.test(last) && !PERSON.test(head);
  if (plural || bareWords.includes(head)) return bare;
  const vowel = /^(?:[aeiou]|hour|x-ray|sos |sms)/.test(bare) && !/^(?:uni(?!n)|one[- ]|euro|ewe|u[- ]|use)/.test(bare);
  return `${vowel ? 'an' : 'a'} ${bare}`;
}

/** "a man with red hair" + ["dark"] -> "a man with red hair and dark skin tone". */
function withTone(phrase, tones) {
  const skin = tones.length > 1 ? `${tones.join(' and ')} skin tones` : `${tones[0]} skin tone`;
  return `${phrase} ${/ with /.test(phrase) ? 'and' : 'with'} ${skin}`;
}

/** Up to three of the name's tags that add something to it; the choice depends on the name alone. */
function tagsOf(parent, bare) {
  const known = new Set(bare.split(/[^a-z]+/));
  const fresh = (tag) => /^[a-z][a-z -]{2,}$/.test(tag) && !tag.split(/[ -]/).some((word) => known.has(word) || known.has(`${word}s`));
  return (parent.tags ?? []).filter(fresh).slice(0, 3);
}

/** "flag: Germany" -> "the flag of Germany", for encoders that know capitals. */
function properName(label) {
  const flag = /^flag: (.*)$/.exec(label);
  if (flag) return `the flag of ${country(flag[1])}`;
  return /[A-Z][a-z]/.test(label) && !label.includes(':') ? label.replace(/’/g, "'").replace(/[“”]/g, '') : undefined;
}
