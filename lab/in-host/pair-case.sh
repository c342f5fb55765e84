#!/bin/busybox sh
# shellcheck shell=dash
# Runs two guests on one bridge, in a network namespace without any other way out: the first (lab.action=meet) pings the second
# (lab.action=answer) and sends it a stream. Exits as the first VMM, or with 92 if the second one failed.
#   the VMM and its arguments for the first guest
export PATH=/bin
[ "$1" = inside ] || exec unshare -n "$0" inside "$@"
shift
make_bridge() {
	ip link add name lab-bridge type bridge && ip link set lab-bridge up || return
	for tap in pair1 pair2; do
		tunctl -t $tap >/dev/null && ip link set $tap master lab-bridge && ip link set $tap up || return
	done
}
make_bridge || exit 92

# The same words, with the second guest's action and tap.
(
	count=$#
	while [ "$count" -gt 0 ]; do
		word=$(echo "$1" | sed 's/lab\.action=meet/lab.action=answer/; s/tap=pair1,mac=02:00:00:00:00:01/tap=pair2,mac=02:00:00:00:00:02/')
		shift
		set -- "$@" "$word"
		count=$((count - 1))
	done
	"$@" </dev/null >/tmp/pair.out 2>&1
	echo $? >/tmp/pair.status
) &
"$@"
status=$?
wait
sed 's/^/second: /' /tmp/pair.out
[ "$(cat /tmp/pair.status)" = 0 ] || exit 92
exit "$status"
