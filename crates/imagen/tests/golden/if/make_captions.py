"""Makes `markup.json`: captions with markup, entities and characters that are written in several ways, and what cleaning makes
of them in diffusers (Beautiful Soup, ftfy and Python's `html`).

    python make_captions.py        # needs diffusers, transformers, torch, beautifulsoup4, ftfy
"""

import json
from pathlib import Path
from types import SimpleNamespace

from diffusers import IFPipeline

HERE = Path(__file__).parent

CAPTIONS = [
    "fish &amp chips", "fish &amp; chips", "rock &amp", "&ampfish", "a &lt b &gt; c", "&nbspwide&nbsp;open", "caf&eacute au lait",
    "caf&eacute; au lait", "&eacute", "&copy 2020 me", "&copy; 2020", "100&euro; or 100&euro each", "&hellip; the end", "&hellip the end",
    "&notit; is not", "&notanentity; here", "&unknown x", "&#233;t&#233", "&#xe9;t&#xE9 here", "&#x; odd", "&# odd", "&#150; dash &#8211;",
    "&#0; zero", "&#1114112; beyond", "&#55296; half", "&#99999999999999; far", "&amp;amp; twice", "&amp;lt;b&amp;gt; thrice", "a&b&c", "AT&T;",
    "&AMP; &LT;b&GT;", "&Eacute;cole", "&frac12; cup", "&times; cross", "&rarr; there", "&quot;said&quot", "&apos;quoted&apos;", "&#39;s",
    "<![CDATA[inside]]> outside", "a <![CDATA[b <i>c</i>]]> d", "<![CDATA[open", "<![if ie]>old<![endif]>new", "<!-- a comment --> after",
    "<!-- open comment", "<!DOCTYPE html>text", "<?php echo 1 ?>text", "<script>alert(1)</script>after", "<style>b{c:d}</style>after",
    "<template>hidden</template>seen", "<ruby>a<rt>b</rt><rp>c</rp></ruby>d", "<p>one</p><p>two</p>", "one<br>two<br/>three",
    "<a href=\"x>y\">link</a>", "<a href='x>y'>link</a>", "<b>bold", "bold</b>", "a < b and c > d", "a <b and c", "5<6", "<3 you", "</>nothing",
    "</ b>odd", "<B CLASS=X>Caps</B>", "<img src=a.png alt='a cat'> photo", "<title>a title</title> text", "<textarea>a <b>c</textarea> text",
    "<script>if (a < b) {}</script> text", "<script>open", "x&y=1", "a&amp;b", "&", "a & b", "&;", "&&amp;&",
    "ﬁne ﬂower oﬃce", "ｆｕｌｌ　ｗｉｄｔｈ １２", "ｶﾀｶﾅ half", "cafe\u0301 composed", "“curly” ‘quotes’ ‚low„", "zero\u200bwidth", "bell\u0007bell",
    "esc\u001b[31mred\u001b[0m", "soft\u00adhyphen", "\ufeffmark", "Ǆ and ĳ", "ŉ and ﬆ", "line\u2028two", "next\u0085line", "％ and ＃", "ﬀ", "￥100",
    "naïve façade", "mixed &eacute; é e\u0301",
]


def main():
    of = SimpleNamespace(bad_punct_regex=IFPipeline.bad_punct_regex)
    clean = lambda caption: IFPipeline._clean_caption(of, IFPipeline._clean_caption(of, caption))
    pairs = [[caption, clean(caption)] for caption in CAPTIONS]
    (HERE / "markup.json").write_text(json.dumps(pairs, ensure_ascii=False, indent=1) + "\n")


main()
