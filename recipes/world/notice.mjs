// The NOTICE that goes with a bank: one entry for each source, and the short licences in full.

const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

const ISC = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.`;

const LICENCES = {
  MIT: 'MIT licence, text below',
  ISC: 'ISC licence, text below',
  'Apache-2.0': 'Apache Licence 2.0, https://www.apache.org/licenses/LICENSE-2.0',
  'CC-BY-4.0': 'Creative Commons Attribution 4.0 International, https://creativecommons.org/licenses/by/4.0/',
  'OFL-1.1': 'SIL Open Font Licence 1.1, https://openfontlicense.org/open-font-license-official-text/',
};

export function notice(sources) {
  const entries = sources.map(({ work, author, link, package: name, version, licence, copyright }) =>
    [`Adapted from ${work} by ${author}`, link, `npm ${name} ${version}`, LICENCES[licence], ...(copyright ?? [])].map((line, i) => (i ? `  ${line}` : line)).join('\n'));
  return `The pictures in this folder are adapted from the works below: rasterised, cut to their edges, scaled, and one-coloured
ones drawn in black. What is made from them must carry this notice. No author endorses this use.

${entries.join('\n\n')}

Names of the emoji come from the Unicode CLDR as packaged by emojibase-data 17.0.0
  https://github.com/milesj/emojibase
  MIT licence, text below
  Copyright (c) 2017-2019 Miles Johnson

----- MIT licence -----

${MIT}

----- ISC licence -----

${ISC}
`;
}
