#!/bin/bash
# Measures line coverage of our crates by replay of every kept input (seeds, corpora, crashes), and prints one line per crate.
#
# With file names as arguments, prints the lines of those files that no input reaches:
#   coverage.sh crates/pvh-memory/src/linear/walk.rs
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tool() {
	local found
	for found in "$1-$version" "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/$1"; do
		if command -v "$found"; then return; fi
	done
	echo "$1 of LLVM $version is missing; install it with: apt-get install llvm-$version, or rustup component add llvm-tools" >&2
	exit 3
}
cov=$(tool llvm-cov) profdata=$(tool llvm-profdata)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-fuzz/target}/coverage
export RUSTFLAGS="-Cinstrument-coverage"
mkdir -p "$CARGO_TARGET_DIR"
program=$(LLVM_PROFILE_FILE=/dev/null cargo test --quiet -p pvh-oracles --test replay --no-run --message-format=json |
	sed -n 's/.*"name":"replay".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
raw=$(mktemp -d)
trap 'rm -rf "$raw"' EXIT
(cd crates/pvh-oracles && LLVM_PROFILE_FILE="$raw/%p.profraw" "$program" --quiet --skip next_to_nothing >/dev/null)
"$profdata" merge -sparse "$raw"/*.profraw -o "$raw/all.profdata"

if [ $# -gt 0 ]; then
	"$cov" show "$program" -instr-profile="$raw/all.profdata" "$@" | grep -E '^ +[0-9]+\| +0\|' || true
	exit
fi
total() {
	"$cov" report "$program" -instr-profile="$raw/all.profdata" "${@:2}" 2>/dev/null |
		awk -v name="$1" '/^TOTAL/ { printf "%-34s %6d lines %6d missed %8s\n", name, $8, $9, $10 }'
}
for crate in elfnote start-info entry vcpu hypercall memory loader xenstore domain ring blkif netif xenbus config; do
	total "pvh-$crate" "crates/pvh-$crate/src"
done
total "pvh-memory, the linear walker" crates/pvh-memory/src/linear
total "pvh-domain, rings" crates/pvh-domain/src/parts/store_ring.rs crates/pvh-domain/src/parts/console.rs crates/pvh-domain/src/parts/ring.rs
total "pvh-loader, the plan" crates/pvh-loader/src/plan crates/pvh-loader/src/layout.rs
