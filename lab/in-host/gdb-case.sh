#!/bin/busybox sh
# shellcheck shell=dash
# Runs a VMM under the real gdb, which goes from the first instruction into long mode and lets the guest boot on. Exits as the VMM.
#   $@: the VMM and its arguments
export PATH=/bin
rm -f /tmp/gdb
"$@" --gdb unix:/tmp/gdb &
vmm=$!
until [ -S /tmp/gdb ] || ! kill -0 "$vmm"; do sleep 0.2; done
/lab/gdb/gdb -batch -nx -x /lab/gdb/boot.gdb 2>&1
wait "$vmm"
