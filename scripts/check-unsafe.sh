#!/bin/bash
# Fails if crates/ or vmm/ contain `unsafe` code outside pvh-kvm, or if a module of pvh-kvm allows unsafe code without an
# `// UNSAFETY:` reason just above.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
if grep -rnE --include='*.rs' '(^|[^_[:alnum:]])unsafe( \{| fn| impl| extern|\()' crates vmm | grep -v '^crates/pvh-kvm/'; then
	echo "unsafe code outside crates/pvh-kvm: write it safely, or move it there" >&2
	status=1
fi
while IFS=: read -r file line _; do
	if ! sed -n "$((line > 3 ? line - 3 : 1)),${line}p" "$file" | grep -q '// UNSAFETY:'; then
		echo "$file:$line: unsafe code is allowed without a reason: add \`// UNSAFETY: why\` above" >&2
		status=1
	fi
done < <(grep -rnE --include='*.rs' 'expect\($|expect\(unsafe_code' crates/pvh-kvm | grep 'unsafe_code' || true)
exit "$status"
