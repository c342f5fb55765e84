#!/bin/bash
# Proves that the targets find faults: applies each patch of mutants/ alone to a copy of the project, and fuzzes the target
# that the patch names. Fuzzing starts from the builders' seeds only, which show the fault if the patch says so
# ("Seed: shows it"): then nothing is left for the fuzzer to find.
#
#   mutants.sh [-s SECONDS] [PATCH...]   e.g. mutants.sh -s 60 notes-1
#
# SECONDS (default 60) is processor time of one core. Prints a table: fault, target, executions, seconds. Fails if a fault is
# not found, if a seed shows it, or if a patch does not apply.
set -uo pipefail
cd "$(dirname "$0")"

seconds=60
if [ "${1:-}" = -s ]; then seconds=$2; shift 2; fi
patches=("$@")
[ ${#patches[@]} -gt 0 ] || mapfile -t patches < <(cd mutants && printf '%s\n' *.patch | sed 's/\.patch$//')

for name in "${patches[@]}"; do
	[ -e "mutants/$name.patch" ] || { echo "$name: unknown patch; the patches are" mutants/*.patch >&2; exit 2; }
done

home=$PWD
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$home/target}
# No sanitizer: these are faults of logic, which the oracles find.
export FUZZ_TOOLCHAIN=${FUZZ_TOOLCHAIN:-stable} FUZZ_SANITIZER=none
# Our own crates are optimised little, because they are built again for each fault.
for crate in abi blkif config conformance domain elfnote entry hypercall loader memory netif oracles ring start-info testkit vcpu xenbus xenstore; do
	FUZZ_CARGO_ARGS+=" --config profile.release.package.pvh-$crate.opt-level=1"
done
export FUZZ_CARGO_ARGS
copy=$CARGO_TARGET_DIR/mutants/project
results=$CARGO_TARGET_DIR/mutants/results
mkdir -p "$copy" "$results"
rm -rf "${copy:?}/crates" "${copy:?}/fuzz"
(cd .. && tar c --exclude=fuzz/target --exclude=fuzz/corpus Cargo.toml Cargo.lock crates fuzz) | tar x -C "$copy" || exit 1

field() { sed -n "s/^$2: //p" "mutants/$1.patch"; }

# Builds and runs one target of the copy from its seeds; prints "executions seconds", status 0 if it crashed.
hunt() {
	local name=$1 target=$2 log="$results/$1.log" found status
	found=$(mktemp -d)
	TIMEFORMAT='%U %S'
	time (
		ulimit -t "$seconds"
		"$("$copy/fuzz/run.sh" program "$target")" -max_total_time=$((seconds * 20)) -timeout=20 -rss_limit_mb=1024 \
			-max_len=4096 -print_final_stats=1 -artifact_prefix="$results/$name-" "$found" "$copy/fuzz/seeds/$target" \
			$([ -e "dict/$target.dict" ] && echo "-dict=$home/dict/$target.dict") >"$log" 2>&1
	) 2>"$log.time"
	status=$?
	rm -rf "$found"
	[ "$status" = 77 ]
}

failed=0
printf '| %s | %s | %s | %s | %s |\n|---|---|---|---:|---:|\n' patch fault target executions seconds
for name in "${patches[@]}"; do
	target=$(field "$name" Target) fault=$(field "$name" Fault)
	row="| $name | $fault | $target"
	if ! patch -s -p1 -d "$copy" <"mutants/$name.patch"; then
		echo "$row | does not apply | |"; failed=1; continue
	fi
	if ! "$copy/fuzz/run.sh" build "$target" >"$results/$name.build" 2>&1; then
		echo "$row | does not build | |"; failed=1
	elif ! "$("$copy/fuzz/run.sh" program "$target")" -runs=0 -artifact_prefix="$results/$name-" "$copy/fuzz/seeds/$target" >"$results/$name.seeds" 2>&1; then
		if [ -n "$(field "$name" Seed)" ]; then echo "$row | a seed | 0.0 |"; else echo "$row | a seed shows it | |"; failed=1; fi
	elif [ -n "$(field "$name" Seed)" ]; then
		echo "$row | no seed shows it | |"; failed=1
	elif hunt "$name" "$target"; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$results/$name.log")
		spent=$(awk '{ printf "%.1f", $1 + $2 }' "$results/$name.log.time")
		echo "$row | $runs | $spent |"
	else
		echo "$row | not found | |"; failed=1
	fi
	patch -s -R -p1 -d "$copy" <"mutants/$name.patch" || exit 1
done
exit "$failed"
