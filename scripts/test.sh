#!/bin/bash
# Runs the tests and prints how many passed, failed and were skipped.
#
# A test that needs something from the machine is marked #[ignore = "needs ..."]. It runs if the machine has it; otherwise
# it counts as skipped.
#   test.sh             runs all tests
#   test.sh --kvm-only  runs only the tests that need /dev/kvm; fails if it cannot be opened
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
met=()

run() {
	"$@" 2>&1 | tee -a "$log"
	local result=${PIPESTATUS[0]}
	[ "$result" = 0 ] || status=$result
}

have_kvm() { { : <>/dev/kvm; } 2>/dev/null; }

if [ "${1:-}" != --kvm-only ]; then
	run cargo test --workspace --all-features --no-fail-fast
	run cargo test -p pvh-loader --no-default-features --test without_codecs
	if command -v gdb >/dev/null; then
		run cargo test -p pvh-gdb -p pvh-crash --test gdb -- --ignored
		met+=("needs gdb")
	fi
	if [ -e /usr/include/xen/xen.h ]; then
		run cargo test -p pvh-abi -p pvh-blkif -p pvh-netif --test xen_headers -- --ignored
		met+=("needs libxen-dev")
	fi
elif ! have_kvm; then
	echo "cannot open /dev/kvm: run this on a machine with KVM, as a user who may use it (group kvm)" >&2
	exit 4
fi
if have_kvm; then
	run cargo test -p pvh-kvm -p pvh-xen -p pvh-vmm -p pvh-examples --all-features --no-fail-fast -- --ignored --skip in_32_bit_paging --skip with_debug_exits \
		--skip a_call_that_fails --skip a_host_that_refuses_any_thread --skip sixteen_machines_side_by_side
	met+=("needs /dev/kvm")
else
	echo "cannot open /dev/kvm: the tests that need it are skipped"
fi

# A test whose need is met appears as ignored in the first run, and as passed in its own run.
ignored_of() { grep -c -- "^test .* \.\.\. ignored, $1" "$log"; }
skipped=$(ignored_of '')
if [ "${1:-}" != --kvm-only ]; then
	for need in "${met[@]}"; do
		skipped=$((skipped - $(ignored_of "$need")))
	done
fi
grep '^test .* \.\.\. ignored' "$log" | sed 's/.*ignored, //' | sort | uniq -c | while read -r count need; do
	[[ " ${met[*]} " == *" $need "* ]] || echo "skipped: $count ($need)"
done
awk -v skipped="$skipped" '
	/^test result:/ { passed += $4; failed += $6 }
	END {
		printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
		exit passed == 0
	}' "$log" || status=1
exit "$status"
