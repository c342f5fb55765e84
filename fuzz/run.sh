#!/bin/bash
# Builds and runs fuzz targets.
#
#   run.sh build [TARGET...]     builds the targets (default: all)
#   run.sh fuzz TARGET SECONDS   runs one target from its corpus and its seeds; new inputs stay in fuzz/target
#   run.sh smoke SECONDS         runs each target for SECONDS, always with the same random seed
#   run.sh campaign SECONDS JOBS [TARGET...]   runs each target for SECONDS, JOBS at a time, and prints a table
#   run.sh minimise TARGET       writes the smallest set of inputs with the same coverage into fuzz/corpus
#   run.sh repro FILE            runs one input of crashes/TARGET again, makes it smaller, and shows its bytes
#   run.sh list                  lists the targets
#
# AddressSanitizer is on. It uses a nightly toolchain if there is one, and the stable toolchain otherwise, with RUSTC_BOOTSTRAP
# set. All is done with flags of rustc, so cargo-fuzz is not needed (`cargo fuzz` works, too).
# FUZZ_TOOLCHAIN chooses a toolchain; FUZZ_SANITIZER=none instruments for coverage only.
set -euo pipefail
cd "$(dirname "$0")"

toolchain=${FUZZ_TOOLCHAIN:-}
if [ -z "$toolchain" ]; then
	if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then toolchain=nightly; else toolchain=stable; fi
fi
host=$(rustc -vV | sed -n 's/^host: //p')
sanitizer=${FUZZ_SANITIZER:-address}
case $sanitizer in
address) out=${CARGO_TARGET_DIR:-target}/$toolchain ;;
none) out=${CARGO_TARGET_DIR:-target}/$toolchain-$sanitizer ;;
*) echo "FUZZ_SANITIZER=$sanitizer is unknown: use address or none" >&2; exit 2 ;;
esac

flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
if [ "$sanitizer" = address ]; then flags+=" -Zsanitizer=address"; fi

targets() { sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"/\1/p' Cargo.toml; }

build() {
	local bins=()
	echo "building $* with the $toolchain toolchain, sanitizer: $sanitizer" >&2
	for target in "$@"; do bins+=(--bin "$target"); done
	local cargo=(cargo)
	if command -v rustup >/dev/null; then cargo=(cargo "+$toolchain"); fi
	# a stable rustc accepts -Z flags only with this
	case $toolchain-$sanitizer in nightly*-* | *-none) ;; *) export RUSTC_BOOTSTRAP=1 ;; esac
	RUSTFLAGS="$flags ${RUSTFLAGS:-}" "${cargo[@]}" build --quiet ${FUZZ_CARGO_ARGS:-} --release --target "$host" --target-dir "$out" "${bins[@]}"
}

program() { echo "$out/$host/release/$1"; }

# Limits of memory for the process and for one allocation; our own bounds for hostile files are lower.
options() {
	local target=$1
	echo -timeout=10 -rss_limit_mb=768 -malloc_limit_mb=64 -max_len="$(max_len "$target")" -use_value_profile=0
	# Sequences of steps are long from the beginning: the usual control keeps inputs of a slow target at some dozens of bytes.
	case $target in hypercall | trace | xenstore | blkif | netif | xenbus) echo -len_control=0 ;; esac
	if [ -e "dict/$target.dict" ]; then echo "-dict=dict/$target.dict"; fi
}

max_len() {
	case $1 in
	notes | bzimage) echo 8192 ;;
	trace) echo 16384 ;;
	differential | elf_commit) echo 4096 ;;
	*) echo 2048 ;;
	esac
}

fuzz() {
	local target=$1 seconds=$2 found="$out/corpus/$1"
	shift 2
	mkdir -p "$found" "crashes/$target" "corpus/$target" "seeds/$target"
	# shellcheck disable=SC2046 # words are meant to split
	"$(program "$target")" $(options "$target") -max_total_time="$seconds" -print_final_stats=1 \
		-artifact_prefix="crashes/$target/" "$@" "$found" "corpus/$target" "seeds/$target"
}

smoke() {
	local seconds=$1 target log
	log=$(mktemp)
	for target in $(targets); do
		if ! fuzz "$target" "$seconds" -seed=1 >"$log" 2>&1; then
			tail -40 "$log"
			echo "$target: failed; the input is in fuzz/crashes/$target" >&2
			exit 1
		fi
		awk -v target="$target" '
			/^stat::number_of_executed_units/ { runs = $2 }
			/^stat::average_exec_per_sec/ { rate = $2 }
			/ cov: / { cov = $4; }
			END { printf "%-22s %9d executions %8d/s %6s edges\n", target, runs, rate, cov }' "$log"
	done
	rm -f "$log"
}

# Prints one row of a campaign's table; the log stays beside the corpus.
campaign_row() {
	local target=$1 seconds=$2 log="$out/campaign/$1.log" status=0 start=$SECONDS
	fuzz "$target" "$seconds" >"$log" 2>&1 || status=$?
	awk -v target="$target" -v spent=$((SECONDS - start)) -v status="$status" '
		/^stat::number_of_executed_units/ { runs = $2 }
		/^stat::peak_rss_mb/ { rss = $2 }
		/INITED cov: / && !first { first = $4 }
		/ cov: / { cov = $4 }
		END { printf "| %s | %d | %d | %d | %d | %d | %s |\n", target, spent, runs, first, cov, rss, status == 0 ? "none" : "FOUND" }' "$log"
	return "$status"
}

campaign() {
	local seconds=$1 jobs=$2
	shift 2
	mkdir -p "$out/campaign"
	echo "| target | seconds | executions | edges at first | edges at last | peak MiB | findings |"
	echo "|---|---:|---:|---:|---:|---:|---|"
	printf '%s\n' "$@" | xargs -P "$jobs" -I{} ./run.sh row {} "$seconds"
}

minimise() {
	local target=$1 small
	small=$(mktemp -d)
	mkdir -p "$out/corpus/$target" "corpus/$target" "seeds/$target"
	# shellcheck disable=SC2046
	"$(program "$target")" $(options "$target") -set_cover_merge=1 "$small" "seeds/$target" "corpus/$target" "$out/corpus/$target" >/dev/null 2>&1
	rm -rf "corpus/$target"
	mv "$small" "corpus/$target"
	chmod 755 "corpus/$target"
	# an input that is also a seed needs no copy
	for input in "corpus/$target"/*; do
		for seed in "seeds/$target"/*; do if cmp -s "$input" "$seed"; then rm -f "$input"; break; fi; done
	done
	echo "$target: $(find "corpus/$target" -type f | wc -l) inputs, $(du -sb "corpus/$target" | cut -f1) bytes"
}

# The target is the name of the folder. The smaller input lies beside the first one.
repro() {
	local file=$1 target small
	target=$(basename "$(dirname "$(realpath "$file")")")
	known "$target"
	build "$target"
	if "$(program "$target")" -timeout=20 "$file"; then
		echo "$target: $file does not fail" >&2
		return 1
	fi
	small="$file.smaller"
	"$(program "$target")" -minimize_crash=1 -max_total_time=60 -exact_artifact_path="$small" "$file" >/dev/null 2>&1 || true
	[ -s "$small" ] || cp "$file" "$small"
	echo "$target: $(stat -c %s "$file") bytes, then $(stat -c %s "$small") in $small:"
	xxd "$small" | head -40
}

usage() {
	sed -n '2,14s/^# \{0,1\}//p' run.sh >&2
	exit 2
}

# Refuses an unknown target.
known() {
	if ! targets | grep -qxF -- "${1:-}"; then
		echo "'${1:-}' is not a target; the targets are" $(targets) >&2
		exit 2
	fi
}

case ${1:-} in
fuzz | minimise | program | absolute | max-len | row) known "${2:-}" ;;
build) for target in "${@:2}"; do known "$target"; done ;;
campaign) for target in "${@:4}"; do known "$target"; done ;;
esac

case ${1:-} in
list) targets ;;
build) shift; if [ $# = 0 ]; then mapfile -t all < <(targets); build "${all[@]}"; else build "$@"; fi ;;
fuzz) build "$2"; fuzz "$2" "${3:-60}" ;;
smoke) mapfile -t all < <(targets); build "${all[@]}"; smoke "${2:-5}" ;;
campaign)
	[ $# -gt 2 ] || usage
	[ $# -gt 3 ] || { mapfile -t all < <(targets); set -- "$@" "${all[@]}"; }
	build "${@:4}"
	campaign "${@:2}"
	;;
row) campaign_row "$2" "$3" ;;
minimise) build "$2"; minimise "$2" ;;
program) program "$2" ;;
repro)
	[ -f "${2:-}" ] || { echo "repro: name an input, as in crashes/hypercall/NAME" >&2; exit 2; }
	repro "$2"
	;;
absolute) realpath "$(program "$2")" ;;
max-len) max_len "$2" ;;
*) usage ;;
esac
