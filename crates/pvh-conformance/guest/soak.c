/* Takes vCPUs up and down at random with VCPUOP_*, from every vCPU, and checks that each obeys. */
#include "start_info.h"
#include "xen.h"

enum {
    VCPUS = 4,
    ROUNDS = 24,
    STACK_BYTES = 2048,
    UP = 1,
    DOWN = 2,
    IS_UP = 3,
    NOTHING = 99,
    EEXIST = -17,
    EINVAL = -22,
};

/* At least 10 seconds, in TSC ticks. */
#define PATIENCE (1ull << 35)

/* The order to a secondary, and its result. */
struct order {
    volatile uint32_t op, target;
    volatile int32_t result;
};

static struct order orders[VCPUS];
static volatile uint32_t beats[VCPUS];
static uint8_t stacks[VCPUS][STACK_BYTES] __attribute__((aligned(16)));
static bool initialised[VCPUS], up[VCPUS] = {true}, touched[VCPUS];
static uint32_t state, seed, starts, stops;

static uint32_t next_random(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static int32_t vcpu_op(uint32_t op, uint32_t vcpu, const void *argument)
{
    return xen_call(VCPU_OP, op, vcpu, (uint32_t)argument);
}

static void say_number(const char *text, uint32_t value)
{
    print(text);
    print_number(value);
}

static void give_up(const char *what, uint32_t vcpu, uint32_t round, int32_t result)
{
    print("soak: failed: ");
    print(what);
    say_number(", vCPU ", vcpu);
    say_number(", round ", round);
    print(", result ");
    print_hex((uint32_t)result, 8);
    print(", seed ");
    print_hex(seed, 8);
    print("\n");
    xen_shutdown(SHUTDOWN_CRASH);
}

/* Where secondaries start: they count, and carry out orders. */
static void secondary(uint32_t me)
{
    for (;;) {
        beats[me]++;
        if (orders[me].op != NOTHING) {
            orders[me].result = vcpu_op(orders[me].op, orders[me].target, 0);
            orders[me].op = NOTHING;
        }
        __asm__ volatile("pause");
    }
}

static int32_t initialise(uint32_t vcpu)
{
    return xen_initialise(vcpu, secondary, stacks[vcpu] + STACK_BYTES);
}

static bool beats_on(uint32_t vcpu)
{
    uint32_t before = beats[vcpu];
    for (uint64_t start = ticks(); ticks() - start < PATIENCE;) {
        if (beats[vcpu] != before)
            return true;
        __asm__ volatile("pause");
    }
    return false;
}

/* A vCPU that is down no longer counts, once it has left the guest. */
static bool stands_still(uint32_t vcpu)
{
    for (uint64_t start = ticks(); ticks() - start < PATIENCE;) {
        uint32_t before = beats[vcpu];
        for (uint32_t i = 0; i < 200; i++)
            __asm__ volatile("pause");
        if (beats[vcpu] == before)
            return true;
    }
    return false;
}

/* Checks the vCPUs that got an order since the last check. */
static void settle(uint32_t round)
{
    for (uint32_t vcpu = 1; vcpu < VCPUS; vcpu++) {
        if (!touched[vcpu])
            continue;
        touched[vcpu] = false;
        int32_t is_up = vcpu_op(IS_UP, vcpu, 0);
        if (is_up != up[vcpu])
            give_up("is_up is wrong", vcpu, round, is_up);
        if (up[vcpu] && !beats_on(vcpu))
            give_up("a start was lost", vcpu, round, is_up);
        if (!up[vcpu] && !stands_still(vcpu))
            give_up("a stop was lost", vcpu, round, is_up);
    }
}

/* Initialises a vCPU. A second initialise must be refused, and so must a start without an initialise. */
static void prepare(uint32_t vcpu, uint32_t round)
{
    if (!initialised[vcpu]) {
        int32_t early = vcpu_op(UP, vcpu, 0);
        if (early != EINVAL)
            give_up("up before initialise", vcpu, round, early);
    }
    int32_t wanted = initialised[vcpu] ? EEXIST : 0, result = initialise(vcpu);
    if (result != wanted)
        give_up("initialise", vcpu, round, result);
    initialised[vcpu] = true;
    touched[vcpu] = true;
}

static void change(uint32_t vcpu, uint32_t round)
{
    prepare(vcpu, round);
    int32_t result = vcpu_op(up[vcpu] ? DOWN : UP, vcpu, 0);
    if (result != 0)
        give_up("up or down", vcpu, round, result);
    if (up[vcpu])
        stops++;
    else
        starts++;
    up[vcpu] = !up[vcpu];
}

/* A secondary that is up changes the state of another secondary, or its own. */
static void have_changed(uint32_t by, uint32_t vcpu, uint32_t round)
{
    prepare(vcpu, round);
    bool was_up = up[vcpu];
    orders[by].target = vcpu;
    orders[by].op = was_up ? DOWN : UP;
    for (uint64_t start = ticks(); orders[by].op != NOTHING || by == vcpu;) {
        if (by == vcpu && vcpu_op(IS_UP, vcpu, 0) == 0)
            break;
        if (ticks() - start > PATIENCE)
            give_up("an order was lost", by, round, 0);
    }
    if (by != vcpu && orders[by].result != 0)
        give_up("up or down by another", vcpu, round, orders[by].result);
    up[vcpu] = !was_up;
    if (was_up)
        stops++;
    else
        starts++;
}

/* Two vCPUs give a third one opposite orders at the same time: either may be the last. */
static void race(uint32_t by, uint32_t vcpu, uint32_t round)
{
    prepare(vcpu, round);
    orders[by].target = vcpu;
    orders[by].op = next_random(2) == 0 ? UP : DOWN;
    for (uint32_t i = next_random(60); i > 0; i--)
        __asm__ volatile("pause");
    int32_t result = vcpu_op(next_random(2) == 0 ? UP : DOWN, vcpu, 0);
    for (uint64_t start = ticks(); orders[by].op != NOTHING;)
        if (ticks() - start > PATIENCE)
            give_up("an order was lost", by, round, 0);
    if (result != 0 || orders[by].result != 0)
        give_up("a race", vcpu, round, result);
    up[vcpu] = vcpu_op(IS_UP, vcpu, 0) == 1;
}

static void one_round(uint32_t round)
{
    uint32_t vcpu = 1 + next_random(VCPUS - 1), by = 1 + next_random(VCPUS - 1);
    switch (next_random(4)) {
    case 0:
        for (uint32_t many = 1 + next_random(6); many > 0; many--)
            change(1 + next_random(VCPUS - 1), round);
        break;
    case 1:
        if (up[by])
            have_changed(by, vcpu, round);
        break;
    case 2:
        if (up[by] && by != vcpu)
            race(by, vcpu, round);
        break;
    default:
        change(vcpu, round);
    }
    settle(round);
}

/* The number after `name` in the command line; hexadecimal. */
static bool option(const char *name, uint32_t *value)
{
    uint32_t at = (uint32_t)read_start_info(at_entry.ebx).cmdline;
    for (; at != 0 && read8(at) != 0; at++) {
        uint32_t i = 0;
        while (name[i] != 0 && read8(at + i) == (uint8_t)name[i])
            i++;
        if (name[i] != 0)
            continue;
        *value = 0;
        for (at += i;; at++) {
            uint8_t digit = read8(at);
            if (digit >= '0' && digit <= '9')
                *value = *value << 4 | (digit - '0');
            else if (digit >= 'a' && digit <= 'f')
                *value = *value << 4 | (digit - 'a' + 10u);
            else
                return true;
        }
    }
    return false;
}

void guest_main(void)
{
    uint32_t ignored;
    console_open();
    if (!xen_open()) {
        print("soak: failed: this is not Xen\n");
        return;
    }
    /* After a reboot the command line is the same, so the clock makes the difference. */
    if (!option("exact=", &seed)) {
        option("seed=", &seed);
        seed ^= (uint32_t)ticks();
    }
    state = seed | 1;
    for (uint32_t vcpu = 0; vcpu < VCPUS; vcpu++)
        orders[vcpu].op = NOTHING;
    for (uint32_t round = 0; round < ROUNDS; round++)
        one_round(round);
    for (uint32_t vcpu = 1; vcpu < VCPUS; vcpu++)
        touched[vcpu] = true;
    settle(ROUNDS);
    print("soak: ok: seed ");
    print_hex(seed, 8);
    say_number(", starts ", starts);
    say_number(", stops ", stops);
    print("\n");
    xen_shutdown(option("reboot", &ignored) ? SHUTDOWN_REBOOT : SHUTDOWN_POWEROFF);
}

void guest_end(void)
{
    print("soak: failed: an exception\n");
    xen_shutdown(SHUTDOWN_CRASH);
}
