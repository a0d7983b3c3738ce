#!/bin/bash
# Builds nodectl_VERSION_ARCH.deb from built programs: build.sh BIN_DIRECTORY OUTPUT_DIRECTORY
# The result depends only on the programs, the files under systemd/dist and SOURCE_DATE_EPOCH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
bin=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
[ -n "$version" ] || { echo "no version in $root/Cargo.toml" >&2; exit 1; }
arch=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# mktemp makes it for its owner alone; it becomes the root of the package.
stage=$work/stage
mkdir -m 0755 -p "$stage/DEBIAN" "$work/debian"

make --no-print-directory -C "$root" -f systemd/dist/install.mk install DESTDIR="$stage" BIN="$bin" >/dev/null
programs=("$stage"/usr/bin/nodectl "$stage"/usr/libexec/nodectl/* "$stage"/usr/lib/systemd/system-generators/*)
# Scripts, as tests have in place of programs, have nothing to strip and no libraries.
mapfile -t elf < <(for p in "${programs[@]}"; do [ "$(head -c 4 "$p")" != $'\x7fELF' ] || echo "$p"; done)
depends=
if [ ${#elf[@]} -gt 0 ]; then
  strip --strip-unneeded --remove-section=.comment --remove-section=.note "${elf[@]}"
  printf 'Source: nodectl\n\nPackage: nodectl\nArchitecture: any\n' >"$work/debian/control"
  depends="$(cd "$work" && dpkg-shlibdeps -O "${elf[@]}" 2>/dev/null | sed -n 's/^shlibs:Depends=//p'), "
fi
gzip -9n "$stage"/usr/share/man/man1/*.1

doc=$stage/usr/share/doc/nodectl
mkdir -p "$doc"
install -m 0644 "$here/copyright" "$doc/copyright"
date=$(date -u -R -d "@$SOURCE_DATE_EPOCH")
sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$date/" "$here/changelog.in" | gzip -9n >"$doc/changelog.gz"
chmod 0644 "$doc/changelog.gz"

size=$(du -k -s --apparent-size --exclude=DEBIAN "$stage" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
  "$here/control.in" >"$stage/DEBIAN/control"
for script in postinst prerm postrm; do
  install -m 0755 "$here/$script" "$stage/DEBIAN/$script"
done
(cd "$stage" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod -R u=rwX,go=rX "$stage"
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch --no-dereference -d "@$SOURCE_DATE_EPOCH"

dpkg-deb --root-owner-group -Zxz --build "$stage" "$out/nodectl_${version}_${arch}.deb"
