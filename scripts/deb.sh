#!/bin/bash
# deb.sh PROGRAM FOLDER: makes FOLDER/pvh-vmm_VERSION_amd64.deb of the static PROGRAM and the manual pages and completions in
# FOLDER/man and FOLDER/completions. lintian must find nothing, and the program that is unpacked from it must start.
#
# The same commit and the same program give the same bytes: times are the commit's (or SOURCE_DATE_EPOCH). DEB_MAINTAINER is
# "NAME <ADDRESS>"; without it, the maintainer is the author of the commit.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1 out=$2
for tool in dpkg-deb:dpkg lintian:lintian jq:jq strip:binutils; do
	scripts/need.sh "${tool%:*}" "apt install ${tool#*:}"
done

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
commit=$(git rev-parse --short=12 HEAD)
maintainer=${DEB_MAINTAINER:-$(git log -1 --format='%an <%ae>')}
release=$(cargo metadata --no-deps --format-version 1 | jq -r '.packages[] | select(.name == "pvh-vmm").version')
# A build between releases sorts before the next release.
version=$release~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).$commit-1
[ -z "$(git tag --points-at HEAD --list "v$release")" ] || version=$release-1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root doc=$work/root/usr/share/doc/pvh-vmm
umask 022

packed() { gzip -9n >"$1" && chmod 644 "$1"; }

# The program and what describes it.
install -D -m 755 "$program" "$root/usr/bin/pvh-vmm"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/pvh-vmm"
mkdir -p "$root/usr/share/man/man1" "$doc"
for page in "$out"/man/*.1; do
	packed "$root/usr/share/man/man1/$(basename "$page").gz" <"$page"
done
install -D -m 644 "$out/completions/pvh-vmm" "$root/usr/share/bash-completion/completions/pvh-vmm"
install -D -m 644 "$out/completions/_pvh-vmm" "$root/usr/share/zsh/vendor-completions/_pvh-vmm"
install -D -m 644 "$out/completions/pvh-vmm.fish" "$root/usr/share/fish/vendor_completions.d/pvh-vmm.fish"
packed "$doc/changelog.gz" <vmm/CHANGELOG.md
packed "$doc/changelog.Debian.gz" <<EOF
pvh-vmm ($version) unstable; urgency=medium

  * Made from commit $commit; changelog.gz lists what has changed.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF
install -D -m 644 scripts/deb/overrides "$root/usr/share/lintian/overrides/pvh-vmm"

# The licences: this project's, and those of the crates that the program contains.
{
	cat scripts/deb/copyright
	sed -e '/^Copyright/d' -e 's/^$/./' -e 's/^/ /' LICENSE-BSD-3-Clause | sed -e '1{/^ \.$/d}'
} >"$doc/copyright"
cargo tree -p pvh-vmm -e normal --prefix none --no-dedupe --format '{p}' | awk '{print $1 " " substr($2, 2)}' | sort -u >"$work/crates"
cargo metadata --format-version 1 | jq -r '.packages[] | "\(.name) \(.version)\t\(.license // "see its file")\t\(.manifest_path)"' | sort -u |
	while IFS=$'\t' read -r crate licence manifest; do
		# This project's own crates have this package's licence.
		[[ $crate == pvh-* ]] && continue
		grep -qxF "$crate" "$work/crates" || continue
		printf '==== %s: %s\n\n' "$crate" "$licence"
		find "$(dirname "$manifest")" -maxdepth 2 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'copyright*' \) \
			! -name '*.rs' ! -name '*.toml' | LC_ALL=C sort | while read -r text; do
			printf -- '---- %s\n\n' "$(basename "$text")"
			cat "$text"
			echo
		done
	done | packed "$doc/licences-of-crates.gz"

# The package's own data.
mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<EOF
Package: pvh-vmm
Version: $version
Architecture: amd64
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Suggests: passt
Section: admin
Priority: optional
Description: boots PVH guests on KVM
 A small virtual machine monitor for kernels, unikernels and firmware with
 a Xen PVH entry point. It runs a guest on the terminal, either as a plain
 PC with a serial port or as a Xen domain with hypercalls, xenstore, disks
 and networks, and needs nothing but /dev/kvm.
EOF
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0 -r touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
file=$out/pvh-vmm_${version}_amd64.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$file" >/dev/null

# What was made is what is wanted.
lintian --fail-on error,warning --allow-root "$file"
dpkg-deb --extract "$file" "$work/unpacked"
printed=$("$work/unpacked/usr/bin/pvh-vmm" --version)
[ "$printed" = "pvh-vmm $release ($commit)" ] || { echo "$file: the program prints $printed, not the commit $commit" >&2; exit 1; }
"$work/unpacked/usr/bin/pvh-vmm" demo --write "$work/demo.elf"
"$work/unpacked/usr/bin/pvh-vmm" inspect "$work/demo.elf" >/dev/null
echo "$file: $(stat -c %s "$file") bytes, $printed"
