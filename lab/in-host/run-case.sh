# shellcheck shell=sh
# Runs one case inside the nested host. Sourced by its init, and by the tests, with:
#   token     the first word of each mark; a guest does not know it, so no guest can write a mark
#   work      a directory for temporary files
#   patience  seconds between asking a program to end and killing it

: "${token:?}" "${work:?}" "${patience:?}"

# Writes a mark on a line of its own, even if the guest left the line before unfinished.
mark() { printf '\n%s %s\n' "$token" "$*"; }

uptime_s() { cut -d. -f1 /proc/uptime; }

# Runs the program after the first six arguments, passes its output on, and writes a mark that says how it ended.
#   name, seconds it may take, how often the guest must have printed a line with the next before it is stopped
#   (0: let it end), that text, lines to type with `|` between (none: its stdin is empty), what must have been printed before they are typed
run_case() {
	name=$1 seconds=$2 stop_after=$3 stop_on=$4 keys=$5 after=$6
	shift 6
	mark begin "$name"
	start=$(uptime_s) ended=itself
	rm -f "$work/status" "$work/pipe" "$work/pid" "$work/record"
	mkfifo "$work/pipe"
	tee "$work/out" <"$work/pipe" &
	start_program "$@" >"$work/pipe" 2>&1 &
	while [ ! -e "$work/status" ]; do
		sleep 0.2
		if [ $(($(uptime_s) - start)) -ge "$seconds" ]; then
			ended=timeout
			stop_program
		elif [ "$stop_after" -gt 0 ] && [ "$(grep -cF -- "$stop_on" "$work/out")" -ge "$stop_after" ]; then
			ended=stopped
			stop_program
		fi
	done
	wait
	# Files leave the host as text, because its only way out is the serial line.
	if [ -e "$work/record" ]; then
		mark record "$name"
		gzip -9 <"$work/record" | base64
	fi
	mark end "$name" "exit=$(cat "$work/status")" "ended=$ended" "seconds=$(($(uptime_s) - start))"
	dmesg -c | sed 's/^/host: /'
}

# Runs the program in a child of this process; files get its process id and its exit status.
start_program() {
	# shellcheck disable=SC2016 # the inner shell expands them
	set -- sh -c 'echo $$ >"$0"; exec "$@"' "$work/pid" "$@"
	if [ -n "$keys" ]; then
		type_keys 2>/dev/null | {
			"$@"
			echo $? >"$work/status"
		}
	else
		"$@" </dev/null
		echo $? >"$work/status"
	fi
}

# Types one line per second, starting again after the last, until the program has ended.
type_keys() {
	until [ -z "$after" ] || grep -qF -- "$after" "$work/out" || [ -e "$work/status" ]; do sleep 0.2; done
	while :; do
		rest=$keys\|
		while [ -n "$rest" ]; do
			sleep 1
			[ ! -e "$work/status" ] && echo "${rest%%|*}" || return
			rest=${rest#*|}
		done
	done
}

# Ends the program: asks it to end, and kills it if it takes too long.
stop_program() {
	kill -TERM "$(cat "$work/pid")" 2>/dev/null
	asked=$(uptime_s)
	while [ $(($(uptime_s) - asked)) -le "$patience" ]; do
		[ -e "$work/status" ] && return
		sleep 0.2
	done
	kill -KILL "$(cat "$work/pid")" 2>/dev/null
	sleep 1
}
