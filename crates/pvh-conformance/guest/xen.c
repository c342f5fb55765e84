/* Power off as a Xen guest: a PVH domain's ACPI has no _S5. */
#include "guest.h"

enum {
    LEAVES_FIRST = 0x40000000, /* where a hypervisor's leaves may begin, and how far apart */
    LEAVES_END = 0x40010000,
    LEAVES_STEP = 0x100,
    LEAF_HYPERCALL_PAGE = 2,
    CALL_BYTES = 32,
    SCHED_OP = 29,
    SCHEDOP_SHUTDOWN = 2,
    SHUTDOWN_POWEROFF = 0,
};

static uint8_t hypercall_page[4096] __attribute__((aligned(4096)));

/* The first of Xen's leaves: "XenVMMXenVMM" in ebx, ecx, edx; 0 if this is not Xen. */
static uint32_t xen_leaves(void)
{
    for (uint32_t leaf = LEAVES_FIRST; leaf < LEAVES_END; leaf += LEAVES_STEP) {
        struct cpuid r = cpuid(leaf);
        if (r.ebx == 0x566e6558 && r.ecx == 0x65584d4d && r.edx == 0x4d4d566e)
            return leaf;
    }
    return 0;
}

bool xen_power_off(void)
{
    uint32_t leaves = xen_leaves();
    if (leaves == 0)
        return false;
    print("power off: by SCHEDOP_shutdown\n");
    write_msr(cpuid(leaves + LEAF_HYPERCALL_PAGE).ebx, (uint32_t)hypercall_page);
    uint32_t reason = SHUTDOWN_POWEROFF;
    uint32_t command = SCHEDOP_SHUTDOWN, argument = (uint32_t)&reason, result;
    const uint8_t *call = hypercall_page + SCHED_OP * CALL_BYTES;
    __asm__ volatile("call *%3"
                     : "=a"(result), "+b"(command), "+c"(argument)
                     : "r"(call)
                     : "memory");
    return true;
}
