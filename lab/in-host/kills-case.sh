#!/bin/busybox sh
# shellcheck shell=dash
# Kills a VMM in the middle of its guest's writes, again and again, then lets one run end by itself. Each run has to find all that an
# earlier one reported as flushed, and the file system has to be clean at the end. Exits as the last run, or with 91 if something is lost.
#   number of kills, disk image with one partition, the VMM and its arguments
# The tests set $lab, where the lab's files are, and $tmp.
: "${lab:=/lab}" "${tmp:=/tmp}"
[ "$lab" != /lab ] || export PATH=/bin
kills=$1 disk=$2
shift 2
out=$tmp/kills.out flushed=0 round=0 replays=0

# The numbers that follow a word in the guest's lines.
numbers() { tr -d '\r' <"$out" | sed -n "s/^guest: $1 \([0-9]*\)\$/\1/p"; }

lost() {
	cat "$out"
	echo "lab: after kill $round: $1"
	exit 91
}

# Checks that the guest found each number from 1 to $flushed, or in its slot a later one.
check() {
	[ "$flushed" = 0 ] || [ -n "$(numbers holds)" ] || lost 'the guest found nothing'
	number=$((flushed > 16 ? flushed - 15 : 1))
	while [ "$number" -le "$flushed" ]; do
		found=
		for held in $(numbers holds); do
			[ $((held % 16)) != $((number % 16)) ] || [ "$held" -lt "$number" ] || found=y
		done
		[ -n "$found" ] || lost "$number was flushed, and is not there"
		number=$((number + 1))
	done
	[ -z "$(numbers flushed)" ] || flushed=$(numbers flushed | tail -n 1)
	replays=$((replays + $(grep -c '^guest: replayed' "$out")))
}

while [ "$round" -lt "$kills" ]; do
	"$@" >"$out" 2>&1 </dev/null &
	vmm=$!
	until [ "$(numbers flushed | wc -l)" -gt $((round % 7)) ]; do
		kill -0 "$vmm" 2>/dev/null || lost 'the VMM ended before it was killed'
		sleep 0.1
	done
	sleep "0.$((round * 7 % 10))"
	kill -KILL "$vmm"
	wait "$vmm"
	check
	round=$((round + 1))
done
"$@" >"$out" 2>&1 </dev/null
status=$?
check
cat "$out"
echo "lab: $round kills, $flushed numbers flushed and found, $replays journals replayed"
"$lab/e2fsck" -f -n "$disk?offset=1048576" >"$tmp/kills.fsck" 2>&1
fsck=$?
sed 's/^/fsck: /' "$tmp/kills.fsck"
echo "lab: fsck ended with $fsck"
[ "$fsck" = 0 ] || exit 90
exit "$status"
