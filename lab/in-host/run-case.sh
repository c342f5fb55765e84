# shellcheck shell=sh
# Runs one case inside the nested host. Sourced by its init, and by the tests, with:
#   vmm    the program to run
#   token  what the marks begin with; a guest does not know it, so no guest can write one
#   work   a directory for files of ours

: "${vmm:?}" "${token:?}" "${work:?}"

# Writes a mark: a line of its own, whatever the guest left on the line before.
mark() { printf '\n%s %s\n' "$token" "$*"; }

uptime_s() { cut -d. -f1 /proc/uptime; }

# Runs the VMM with the arguments after the first four, streams what it prints, and marks how it ended.
#   name, seconds it may take, how often the guest must be up before it is stopped (0: let it end), y to feed its stdin
run_case() {
	name=$1 seconds=$2 stop_after=$3 feed=$4
	shift 4
	mark begin "$name"
	start=$(uptime_s) ended=itself
	rm -f "$work/status" "$work/pipe" "$work/pid"
	mkfifo "$work/pipe"
	tee "$work/out" <"$work/pipe" &
	start_vmm "$feed" "$@" >"$work/pipe" 2>&1 &
	while [ ! -e "$work/status" ]; do
		sleep 0.2
		if [ $(($(uptime_s) - start)) -ge "$seconds" ]; then
			ended=timeout
			stop_vmm
		elif [ "$stop_after" -gt 0 ] && [ "$(grep -c 'guest: up ' "$work/out")" -ge "$stop_after" ]; then
			ended=stopped
			stop_vmm
		fi
	done
	wait
	mark end "$name" "exit=$(cat "$work/status")" "ended=$ended" "seconds=$(($(uptime_s) - start))"
	dmesg -c | sed 's/^/host: /'
}

# Runs the VMM in this process's child, whose id and exit status are left in files.
start_vmm() {
	from=$1
	shift
	if [ "$from" = y ]; then
		# shellcheck disable=SC2016 # the inner shell expands them
		while sleep 1 && [ ! -e "$work/status" ]; do echo hello; done 2>/dev/null |
			{ sh -c 'echo $$ >"$0"; exec "$@"' "$work/pid" "$vmm" "$@"; echo $? >"$work/status"; }
	else
		# shellcheck disable=SC2016
		sh -c 'echo $$ >"$0"; exec "$@"' "$work/pid" "$vmm" "$@" </dev/null
		echo $? >"$work/status"
	fi
}

# Ends the VMM: asks, and insists after three seconds.
stop_vmm() {
	kill -TERM "$(cat "$work/pid")" 2>/dev/null
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
		[ -e "$work/status" ] && return
		sleep 0.2
	done
	kill -KILL "$(cat "$work/pid")" 2>/dev/null
	sleep 1
}
