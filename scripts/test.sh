#!/bin/bash
# Runs the tests and closes with one line: how many passed, failed, and were ignored.
# Tests that need /dev/kvm run where it can be opened; elsewhere they are counted as ignored.
#   test.sh             all tests
#   test.sh --kvm-only  only those that need /dev/kvm; fails where there is none
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
kvm_crates=(-p pvh-kvm -p pvh-vmm)

run() {
	"$@" 2>&1 | tee -a "$log"
	local result=${PIPESTATUS[0]}
	[ "$result" = 0 ] || status=$result
}

have_kvm() { { : <>/dev/kvm; } 2>/dev/null; }

if [ "${1:-}" != --kvm-only ]; then
	run cargo test --workspace --all-features
elif ! have_kvm; then
	echo "/dev/kvm cannot be opened: run where KVM is available and permitted" >&2
	exit 4
fi
if have_kvm; then
	run cargo test "${kvm_crates[@]}" --all-features -- --ignored kvm
else
	echo "/dev/kvm cannot be opened: the tests that need it are ignored"
fi

# A test that needs KVM shows as ignored in the first run and as passed in the second.
awk -v kvm="$(have_kvm && echo 1 || echo 0)" '
	/^test result:/ { passed += $4; failed += $6; ignored += $8; filtered += $12 }
	/^test .* \.\.\. ignored, needs \/dev\/kvm/ { needs_kvm++ }
	END {
		if (kvm) ignored -= needs_kvm
		if (ignored < 0) ignored = 0
		printf "\n%d passed, %d failed, %d skipped\n", passed, failed, ignored
		if (passed == 0) exit 1
	}' "$log" || status=1
exit "$status"
