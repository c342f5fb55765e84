#!/bin/bash
# Builds the program that is given to others, so that the same sources and the same toolchain give the same bytes in any folder.
#
#   dist.sh OUT    builds pvh-vmm without shared libraries in target/dist, and copies it to OUT
#   dist.sh --compare    builds the commit twice, in two folders with names of different lengths, and compares
#
# Panics and assertions name source files: the folders of the sources and of Cargo are replaced by fixed names. A program that still has
# the name of one of them is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
# A copy without a repository names its commit in the environment, or none.
commit=$(git rev-parse HEAD 2>/dev/null || true)
export PVH_VMM_COMMIT=${PVH_VMM_COMMIT:-${commit:0:12}}

build() { # FOLDER
	local home=${CARGO_HOME:-$HOME/.cargo} folder
	folder=$(cd "$1" && pwd -P)
	(
		cd "$folder"
		export CARGO_TARGET_DIR=$folder/target/dist CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0
		export RUSTFLAGS="--remap-path-prefix=$folder=/pvh --remap-path-prefix=$home=/cargo"
		export CFLAGS="-ffile-prefix-map=$home=/cargo -ffile-prefix-map=$folder=/pvh"
		unset CARGO_ENCODED_RUSTFLAGS
		cargo rustc --locked --quiet --release -p pvh-vmm --bin pvh-vmm -- -C target-feature=+crt-static
	)
	local found
	if found=$(grep -aoE "($folder|$home|$HOME)/[[:print:]]{0,60}" "$folder/target/dist/release/pvh-vmm" | head -n3) && [ -n "$found" ]; then
		printf 'the program has names of folders of this machine:\n%s\n' "$found" >&2
		return 1
	fi
}

if [ "${1:-}" != --compare ]; then
	out=${1:?usage: dist.sh OUT or dist.sh --compare}
	build .
	install -D target/dist/release/pvh-vmm "$out"
	sha256sum "$out"
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sums=()
for name in a another/folder/with/a/longer/name; do
	mkdir -p "$work/$name"
	git archive "$commit" | tar -x -C "$work/$name"
	build "$work/$name"
	sums+=("$(sha256sum <"$work/$name/target/dist/release/pvh-vmm" | cut -d' ' -f1)")
	rm -rf "$work/$name/target/dist/release/"{build,deps}
done
printf '%s\n' "${sums[@]}"
if [ "${sums[0]}" != "${sums[1]}" ]; then
	echo "two builds of one commit differ" >&2
	exit 1
fi
echo "two builds of one commit, in two folders, are the same"
