/* Hypercalls of a Xen guest, and power off: a PVH domain's ACPI has no _S5. */
#include "xen.h"

enum {
    LEAVES_FIRST = 0x40000000, /* the first place for a hypervisor's leaves, and the distance to the next */
    LEAVES_END = 0x40010000,
    LEAVES_STEP = 0x100,
    LEAF_HYPERCALL_PAGE = 2,
    CALL_BYTES = 32,
    SCHEDOP_SHUTDOWN = 2,
    VCPUOP_INITIALISE = 0,
    CONTEXT_BYTES = 128,
};

void *memset(void *at, int byte, size_t size);

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

bool xen_open(void)
{
    uint32_t leaves = xen_leaves();
    if (leaves == 0)
        return false;
    write_msr(cpuid(leaves + LEAF_HYPERCALL_PAGE).ebx, (uint32_t)hypercall_page);
    return true;
}

int32_t xen_call(uint32_t number, uint32_t a, uint32_t b, uint32_t c)
{
    int32_t result;
    const uint8_t *call = hypercall_page + number * CALL_BYTES;
    __asm__ volatile("call *%4"
                     : "=a"(result), "+b"(a), "+c"(b), "+d"(c)
                     : "r"(call)
                     : "memory");
    return result;
}

void xen_shutdown(uint32_t reason)
{
    xen_call(SCHED_OP, SCHEDOP_SHUTDOWN, (uint32_t)&reason, 0);
}

static void put32(uint8_t *context, uint32_t offset, uint32_t value)
{
    *(uint32_t *)(context + offset) = value;
}

int32_t xen_initialise(uint32_t vcpu, void (*entry)(uint32_t vcpu), uint8_t *top)
{
    static uint8_t context[CONTEXT_BYTES] __attribute__((aligned(8)));
    uint32_t *stack = (uint32_t *)top;
    *--stack = vcpu;
    *--stack = 0; /* where a return would go */
    memset(context, 0, sizeof context);
    put32(context, 24, (uint32_t)stack);
    put32(context, 40, (uint32_t)entry);
    put32(context, 48, 1); /* CR0.PE */
    for (uint32_t limit = 92; limit <= 104; limit += 4)
        put32(context, limit, 0xffffffff);
    put32(context, 108, 0x67);
    put32(context, 112, 0x0c930c9b);
    put32(context, 116, 0x0c930c93);
    put32(context, 120, 0x8b);
    return xen_call(VCPU_OP, VCPUOP_INITIALISE, vcpu, (uint32_t)context);
}

bool xen_power_off(void)
{
    if (!xen_open())
        return false;
    print("power off: by SCHEDOP_shutdown\n");
    xen_shutdown(SHUTDOWN_POWEROFF);
    return true;
}
