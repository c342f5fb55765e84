#!/bin/sh
# need.sh TOOL HOW: stops with status 3 and the way to get TOOL when it is missing.
command -v "$1" >/dev/null 2>&1 && exit 0
echo "$1 is missing; get it with: $2" >&2
exit 3
