/* Other vCPUs: they start by VCPUOP_initialise and VCPUOP_up, and carry out steps that they are handed. */
#include "fuzz.h"

enum {
    STACK_BYTES = 4096,
    UP = 1,
    DOWN = 2,
    IS_UP = 3,
};

/* At least a tenth of a second, in TSC ticks. */
#define PATIENCE (1ull << 28)

struct order {
    volatile uint32_t is_there;
    struct step step;
    struct result result;
};

struct table {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed));

static struct order orders[VCPUS];
static uint8_t stacks[VCPUS][STACK_BYTES] __attribute__((aligned(16)));
static struct table gdt, idt;
static volatile bool is_awake[VCPUS];

static uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void secondary(uint32_t me)
{
    __asm__ volatile("lgdt %0\n\tlidt %1" : : "m"(gdt), "m"(idt));
    is_awake[me] = true;
    for (;;) {
        if (orders[me].is_there) {
            orders[me].result = guarded(&orders[me].step, me);
            orders[me].is_there = 0;
        }
        __asm__ volatile("pause" ::: "memory");
    }
}

void vcpus_open(bool xen)
{
    static const uint8_t code[] = {0xfa, 0xf4, 0xeb, 0xfd}; /* cli; hlt; jmp to the hlt */
    __asm__ volatile("sgdt %0\n\tsidt %1" : "=m"(gdt), "=m"(idt));
    for (uint32_t i = 0; i < sizeof code; i++)
        *(volatile uint8_t *)(TRAMPOLINE + i) = code[i];
    (void)xen;
}

static int32_t vcpu_op(uint32_t op, uint32_t vcpu)
{
    return xen_call(VCPU_OP, op, vcpu, 0);
}

/* Never vCPU 0: it prints. */
uint32_t step_vcpu(const struct step *step)
{
    uint32_t vcpu = 1 + step->a % (VCPUS - 1);
    switch (step->b & 3) {
    case 0:
        return (uint32_t)vcpu_op(DOWN, vcpu);
    case 1:
        return (uint32_t)vcpu_op(IS_UP, vcpu);
    default: {
        int32_t result = xen_initialise(vcpu, secondary, stacks[vcpu] + STACK_BYTES);
        is_awake[vcpu] = false;
        return (uint32_t)result << 8 | ((uint32_t)vcpu_op(UP, vcpu) & 0xff);
    }
    }
}

struct result carry_out(const struct step *step)
{
    uint32_t vcpu = step->vcpu % VCPUS;
    if (vcpu != 0 && is_awake[vcpu] && !orders[vcpu].is_there) {
        orders[vcpu].step = *step;
        __asm__ volatile("" ::: "memory");
        orders[vcpu].is_there = 1;
        for (uint64_t start = ticks(); ticks() - start < PATIENCE;) {
            if (!orders[vcpu].is_there)
                return orders[vcpu].result;
            __asm__ volatile("pause" ::: "memory");
        }
        /* It went down: what it was handed is void. */
        is_awake[vcpu] = false;
        orders[vcpu].is_there = 0;
        return (struct result){0, false};
    }
    return guarded(step, 0);
}
