# From the first instruction of the PVH entry into long mode. QEMU's emulated SVM neither intercepts INT3 nor watches the debug
# registers of a guest, so breakpoints and watchpoints cannot be shown here; steps can.
set pagination off
set confirm off
target remote /tmp/gdb
printf "gdb: first instruction at %#lx, cr0 %#lx, efer %#lx, ebx %#lx\n", $rip, $cr0, $efer, $rbx
monitor start-info

# Steps through the switch: the packet of registers stays as long as it is.
set $steps = 0
while ($efer & 0x400) == 0 && $steps < 5000
  stepi
  set $steps = $steps + 1
end
printf "gdb: long mode after %d steps, at %#lx, cr0 %#lx, efer %#lx\n", $steps, $rip, $cr0, $efer
stepi
stepi
printf "gdb: two steps later at %#lx\n", $rip

eval "monitor walk %#lx", $rip
info threads
monitor domain
detach
