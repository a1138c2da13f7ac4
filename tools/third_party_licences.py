"""Prints the licences of everything that is compiled into a package of this workspace, with their texts.

    python3 tools/third_party_licences.py imagen-cli > THIRD-PARTY.txt

`tools/dist.sh` puts the result into archives, Debian packages and wheels. A text that several packages share stands there once. A
package that ships none is named with the licence that it is used under; one for which there is no text at all ends the program.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense|ofl|ufl)|.*licen[cs]e\.txt$", re.IGNORECASE)
# of what a package brings along
NESTED = ("fonts/*.txt", "c_src/*/LICENSE*")


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def compiled_in(package):
    """Names and versions, without what only builds."""
    tree = cargo("tree", "--locked", "-p", package, "-e", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
    return sorted({tuple(line.split()[:2]) for line in tree.splitlines() if line})


def texts(folder):
    """The licences that a package ships."""
    files = [path for path in sorted(folder.iterdir()) if TEXT.match(path.name)]
    files = [file for path in files for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]
    nested = [file for pattern in NESTED for file in sorted(folder.glob(pattern))]
    return [file.read_text(errors="replace").strip() for file in files + nested]


def stand_in(name, licence, authors):
    """A text for a package that ships none."""
    if "Apache-2.0" in licence:
        return (ROOT / "LICENSE-APACHE").read_text().strip()
    if licence == "MIT":
        terms = (ROOT / "LICENSE-MIT").read_text()
        return f"MIT License\n\nCopyright (c) {', '.join(authors) or f'the authors of {name}'}\n\n{terms[terms.index('Permission'):].strip()}"
    sys.exit(f"{name} is under {licence} and ships no text of it: add one to {__file__}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    known = {(p["name"], "v" + p["version"]): p for p in json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]}
    packages = [known[key] for key in compiled_in(sys.argv[1])]
    packages = [package for package in packages if package["source"]]
    holders, words = defaultdict(list), {}
    print(f"{sys.argv[1]} contains these packages, each under the licence beside it, and Rust's standard library (MIT OR Apache-2.0).\n")
    for package in packages:
        name, licence = f"{package['name']} {package['version']}", package["license"] or "a licence of its own"
        print(f"  {name:<36} {licence:<44} {package['repository'] or ''}".rstrip())
        found = texts(Path(package["manifest_path"]).parent) or [stand_in(name, licence, package["authors"])]
        for text in found:
            key = " ".join(text.split())
            words.setdefault(key, text)
            if name not in holders[key]:
                holders[key].append(name)
    for key, names in sorted(holders.items(), key=lambda item: (-len(item[1]), item[1])):
        print(f"\n{'=' * 100}\n{', '.join(names)}\n{'-' * 100}\n\n{words[key]}")


main()
