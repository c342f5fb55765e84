#!/bin/bash
# Mutates the pure crates, one place at a time (cargo-mutants), and lists the changes that the crate's own tests do not notice.
#
#   code-mutants.sh "CRATE..." [OPTION...]   e.g. code-mutants.sh "elfnote entry"; code-mutants.sh domain --shard 0/12
#
# Without crates it mutates all of them, parsers first. Results are in target/mutants/CRATE/mutants.out; --iterate leaves out
# changes that were caught before. Fails if a change was not noticed or did not end in time; docs/fuzzing.md explains the known
# ones.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

crates=${1:-}
[ $# -gt 0 ] && shift
[ -n "$crates" ] || crates="elfnote start-info entry abi memory vcpu hypercall loader xenstore domain"

# Each mutant is built once and run once, so debug information is not worth its time. Each job has a target directory.
unset CARGO_TARGET_DIR
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=1

failed=0
for crate in $crates; do
	echo "== pvh-$crate"
	mkdir -p "target/mutants/$crate"
	cargo mutants --package "pvh-$crate" --all-features --jobs "$(nproc)" --minimum-test-timeout 15 --sharding round-robin \
		--output "target/mutants/$crate" "$@" -- --lib --tests || failed=1
done
exit "$failed"
