# From the first instruction of the PVH entry through long mode to start_kernel, whose address is in $start_kernel.
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

# A debug register: QEMU's emulated SVM does not intercept INT3, so that software breakpoints do not work here.
hbreak *$start_kernel
continue
printf "gdb: the kernel starts at %#lx, cr3 %#lx\n", $rip, $cr3
eval "monitor walk %#lx", $rip
info threads
x/2i $rip
delete

# A watchpoint on the stack that the next call writes.
watch *(long *)($rsp - 16)
continue
printf "gdb: a write to the stack at %#lx\n", $rip
delete
monitor domain
detach
