#!/bin/busybox sh
# shellcheck shell=dash
# Runs a VMM with a Debian on the host's disk /dev/vda: logs in each time it asks, types the command, and checks the file system when
# the VMM has ended. Exits as the VMM, or with 90 if the file system is damaged.
#   NAME of what the guest does (in-debian/script), the VMM and its arguments
# The tests set $lab, where the lab's files are, and $tmp.
: "${lab:=/lab}" "${tmp:=/tmp}"
[ "$lab" != /lab ] || export PATH=/bin
name=$1
shift
out=$tmp/debian.out in=$tmp/debian.in status=$tmp/debian.status www=$lab/www
prompt='root@debian:~#' logins=0 prompts=0 is_typed=
rm -f "$out" "$in" "$status"
mkfifo "$in"
: >"$out"

# How often a text is in the output.
seen() { tr '\r' '\n' <"$out" | grep -cF -- "$1"; }

# The file that the guest fetches: 200 MiB.
make_file() {
	rm -f "$www/done"
	dd if=/dev/urandom of="$www/big" bs=64k count=3200 2>/dev/null
	md5sum <"$www/big" >"$www/big.sum"
}

# Fetches a file from the guest by the port that passt forwards, while the guest fetches one from here. Then tells it to end.
fetch() {
	[ ! -e "$www/done" ] && [ "$(seen 'guest: serving')" -gt 0 ] || return
	cd "$tmp" || return
	rm -f bulk sums
	if wget -q http://127.0.0.1:8080/bulk && wget -q http://127.0.0.1:8080/sums && grep bulk sums | md5sum -c; then
		echo "lab: fetched $(wc -c <bulk) bytes from the guest intact"
	fi
	: >"$www/done"
	cd / || return
}

# Types what the guest waits for.
talk() {
	if [ "$(seen 'debian login:')" -gt "$logins" ]; then
		logins=$((logins + 1)) prompts=$(seen "$prompt") is_typed=
		echo root >&3
	elif [ -z "$is_typed" ] && [ "$(seen "$prompt")" -gt "$prompts" ]; then
		is_typed=y
		echo "sh /dev/xvdb $name" >&3
	fi
}

[ "$name" != serve ] || make_file
{
	"$@" --disk /dev/vda --disk "$lab/debian-script,ro" <"$in" 2>&1
	echo $? >"$status"
} | tee "$out" &
exec 3>"$in"
while [ ! -e "$status" ]; do
	sleep 0.5
	talk
	[ "$name" != serve ] || fetch
done
exec 3>&-
wait
"$lab/e2fsck" -f -n /dev/vda1 >"$tmp/debian.fsck" 2>&1
fsck=$?
sed 's/^/fsck: /' "$tmp/debian.fsck"
echo "lab: fsck ended with $fsck"
[ "$fsck" = 0 ] || exit 90
exit "$(cat "$status")"
