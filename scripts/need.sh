#!/bin/sh
# need.sh TOOL HOW: if TOOL is missing, prints the command HOW that installs it, and exits with 3.
command -v "$1" >/dev/null 2>&1 && exit 0
echo "$1 is missing; install it with: $2" >&2
exit 3
