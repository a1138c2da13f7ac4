#!/usr/bin/env bash
# Makes what runs without a compiler: an archive and a Debian package of the program, a wheel for Python, and their checksums.
#
#     tools/dist.sh [--profile release] [FOLDER]        # FOLDER: target/packages
#
# --profile release packs a build that is there already, stripped; without it everything is compiled in the profile `dist`.
# The Debian package is left out where there is no dpkg, the wheel where there is no maturin.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dist
if [ "${1:-}" = --profile ]; then
    profile=${2:?--profile needs a name}
    shift 2
fi
out=$(realpath -m "${1:-target/packages}")
target=$(rustc -vV | sed -n 's/^host: //p')
version=$(cargo pkgid -p imagen-cli | sed 's/.*[#@]//')
# The same program is packed into the same bytes. No compiler is told: C libraries would be built anew for each commit.
time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
unset SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
# what an earlier run made is not to get checksums
rm -f "$out"/imagen-*.tar.gz "$out"/imagen_*.deb "$out"/imagen_rs-*.whl "$out"/SHA256SUMS

cargo build --locked --profile "$profile" -p imagen-cli
built=${CARGO_TARGET_DIR:-target}/$profile/imagen

# What every package holds.
name=imagen-$version-$target
tree=$work/$name
mkdir -p "$tree/completions"
cp "$built" "$tree/imagen"
strip "$tree/imagen"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$tree"
python3 tools/third_party_licences.py imagen-cli > "$tree/THIRD-PARTY.txt"
{
    printf 'The program holds a model. What it was made of:\n\n== The text encoder (models/minilm)\n\n'
    cat models/minilm/NOTICE
    printf '\n== The pictures that it was trained on (models/default)\n\n'
    cat models/default/NOTICE
    printf '\n== The licence of the text encoder\n\n'
    cat models/minilm/LICENSE
} > "$tree/NOTICE"
"$tree/imagen" man "$tree/man" > "$work/pages"
"$tree/imagen" completions bash > "$tree/completions/imagen.bash"
"$tree/imagen" completions zsh > "$tree/completions/_imagen"
"$tree/imagen" completions fish > "$tree/completions/imagen.fish"

tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w --mtime="@$time" \
    -C "$work" -c "$name" | gzip -n > "$out/$name.tar.gz"

# put MODE FILE TO: into the Debian package; pages and long texts are compressed there
put() { install -D -m "$1" "$2" "$root/$3"; }
if command -v dpkg-deb > /dev/null && command -v dpkg-shlibdeps > /dev/null; then
    root=$work/deb
    put 755 "$tree/imagen" usr/bin/imagen
    for page in "$tree"/man/*.1; do
        put 644 "$page" "usr/share/man/man1/$(basename "$page")"
    done
    put 644 "$tree/completions/imagen.bash" usr/share/bash-completion/completions/imagen
    put 644 "$tree/completions/_imagen" usr/share/zsh/vendor-completions/_imagen
    put 644 "$tree/completions/imagen.fish" usr/share/fish/vendor_completions.d/imagen.fish
    cat LICENSE-MIT - LICENSE-APACHE "$tree/NOTICE" <<< $'\nor, at your choice:\n' > "$work/copyright"
    put 644 "$work/copyright" usr/share/doc/imagen/copyright
    put 644 CHANGELOG.md usr/share/doc/imagen/changelog
    put 644 "$tree/THIRD-PARTY.txt" usr/share/doc/imagen/THIRD-PARTY.txt
    gzip -n9 "$root"/usr/share/man/man1/*.1 "$root"/usr/share/doc/imagen/changelog "$root"/usr/share/doc/imagen/THIRD-PARTY.txt
    # dpkg-shlibdeps reads which versions of which libraries the program needs, and wants a source package around it
    mkdir -p "$work/source/debian" "$root/DEBIAN"
    printf 'Source: imagen\n\nPackage: imagen\nArchitecture: any\n' > "$work/source/debian/control"
    depends=$(cd "$work/source" && dpkg-shlibdeps -O "$root/usr/bin/imagen" | sed -n 's/^shlibs:Depends=//p')
    architecture=$(dpkg --print-architecture)
    cat > "$root/DEBIAN/control" <<- CONTROL
		Package: imagen
		Version: $version
		Architecture: $architecture
		Maintainer: The authors of Imagen in Rust <imagen@localhost>
		Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f1)
		Depends: $depends
		Section: graphics
		Priority: optional
		Description: text-to-image cascade of diffusion models
		 One program draws pictures from text on an ordinary CPU, with a model that is
		 built in; it trains, measures and inspects such cascades too.
	CONTROL
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
    # most of it is numbers, which xz makes no smaller in ten times the time
    SOURCE_DATE_EPOCH=$time dpkg-deb --root-owner-group -Zgzip --build "$root" "$out/imagen_${version}_$architecture.deb"
else
    echo "no Debian package: dpkg-deb and dpkg-shlibdeps (dpkg-dev) are not here" >&2
fi

if command -v maturin > /dev/null; then
    python3 tools/third_party_licences.py imagen-py > crates/imagen-py/python/imagen/THIRD-PARTY.txt
    maturin build --locked --profile "$profile" --out "$out"
else
    echo "no wheel: maturin is not here (pip install maturin)" >&2
fi

cd "$out"
sha256sum -- imagen[-_]* > SHA256SUMS
cat SHA256SUMS
