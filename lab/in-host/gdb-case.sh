#!/bin/busybox sh
# shellcheck shell=dash
# Runs a VMM twice: alone, so that the guest tells where its kernel's start_kernel is, and then under the real gdb, which goes
# from the first instruction through long mode to start_kernel, and lets the guest boot on. Exits as the second VMM.
#   $@: the VMM and its arguments
export PATH=/bin
"$@" >/tmp/alone 2>&1 || { status=$? && cat /tmp/alone && exit "$status"; }
address=$(sed -n 's/.*guest: start_kernel \(0x[0-9a-f]*\).*/\1/p' /tmp/alone | head -n 1)
echo "gdb case: start_kernel at ${address:-an unknown address}"
rm -f /tmp/gdb
"$@" --gdb unix:/tmp/gdb &
vmm=$!
until [ -S /tmp/gdb ] || ! kill -0 "$vmm"; do sleep 0.2; done
/lab/gdb/gdb -batch -nx -ex "set \$start_kernel = ${address:-0}" -x /lab/gdb/boot.gdb 2>&1
wait "$vmm"
