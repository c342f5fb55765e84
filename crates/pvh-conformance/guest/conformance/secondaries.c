/* Secondary vCPUs: a start in every mode, and three at a time. */
#include "secondary.h"

enum { CR0_PE = 1, CR0_ET = 0x10, CR4_PSE = 0x10, CR4_PAE = 0x20, EFER_LME = 0x100, EFER_LMA = 0x400,
       SEEDS = 8, STACK = 256, TRIES = 20 };
#define CR0_PG 0x80000000u

volatile struct record records[4];
static uint8_t stacks[4][STACK] __attribute__((aligned(16)));

struct mode {
    const char *name;
    uint32_t cr0, cr4;
    uint16_t cs, data;
};

static const struct mode modes[START_MODES] = {
    [START_16] = {"16-bit protected", CR0_PE, 0, 0x9b, 0x93},
    [START_REAL] = {"real", 0, 0, 0x9b, 0x93},
    [START_32] = {"32-bit", CR0_PE, 0, 0xc9b, 0xc93},
    [START_32_PAGED] = {"32-bit paged", CR0_PE | CR0_PG, CR4_PSE, 0xc9b, 0xc93},
    [START_PAE] = {"PAE", CR0_PE | CR0_PG, CR4_PAE, 0xc9b, 0xc93},
    [START_64] = {"64-bit", CR0_PE | CR0_PG, CR4_PAE, 0, 0},
};

int64_t vcpu_op(uint32_t op, uint32_t vcpu, uint32_t argument)
{
    return call3(VCPU_OP, op, vcpu, argument);
}

int64_t initialise_after_init(uint32_t vcpu, const uint8_t *context)
{
    uint64_t end = now() + 3000000000ull;
    for (;;) {
        int64_t result = vcpu_op(VCPUOP_INITIALISE, vcpu, AT(context));
        if (result != -EEXIST || now() > end)
            return result;
        lapic_send_init(2 * vcpu);
        call2(SCHED_OP, 0, 0);
    }
}

static uint32_t root_of(enum start_mode mode)
{
    switch (mode) {
    case START_32_PAGED:
        return root_of_2_levels();
    case START_PAE:
        return root_of_pae();
    case START_64:
        return root_of_4_levels();
    default:
        return 0;
    }
}

static uint32_t seed(uint32_t vcpu, uint32_t reg)
{
    return 0x11111111 * (reg + 1) + vcpu;
}

static void build_64(uint8_t *context, const struct mode *mode, uint32_t vcpu)
{
    for (uint32_t reg = 0; reg < SEEDS; reg++)
        put(context, 8 + 8 * reg, 8, (uint64_t)seed(vcpu, reg) << 32 | seed(vcpu, reg));
    put(context, 40, 8, AT(stacks[vcpu]) + STACK);
    put(context, 56, 8, vcpu);
    put(context, 64, 8, AT(&records[vcpu]));
    put(context, 72, 8, AT(start_64));
    put(context, 88, 8, mode->cr0);
    put(context, 96, 8, root_of(START_64));
    put(context, 104, 8, mode->cr4);
    put(context, 112, 8, EFER_LME);
}

void build_context(uint8_t *context, enum start_mode start, uint32_t vcpu)
{
    const struct mode *mode = &modes[start];
    bool flat = mode->cs & 0x800;
    memset(context, 0, 128);
    put(context, 0, 4, start == START_64);
    if (start == START_64) {
        build_64(context, mode, vcpu);
        return;
    }
    for (uint32_t reg = 0; reg < SEEDS; reg++)
        put(context, 8 + 4 * reg, 4, seed(vcpu, reg));
    put(context, 24, 4, flat ? AT(stacks[vcpu]) + STACK : STACK);
    put(context, 32, 4, vcpu);
    put(context, 36, 4, flat ? AT(&records[vcpu]) : 0);
    put(context, 40, 4, flat ? AT(start_32) : 0);
    put(context, 48, 4, mode->cr0);
    put(context, 52, 4, root_of(start));
    put(context, 56, 4, mode->cr4);
    put(context, 72, 4, flat ? 0 : AT(start_16));
    put(context, 76, 4, flat ? 0 : AT(&records[vcpu]));
    put(context, 80, 4, flat ? 0 : AT(stacks[vcpu]));
    for (uint32_t segment = 0; segment < 4; segment++) {
        put(context, 92 + 4 * segment, 4, flat ? 0xffffffff : 0xffff);
        put(context, 112 + 2 * segment, 2, segment == 0 ? mode->cs : mode->data);
    }
    put(context, 108, 4, 0x67);
    put(context, 120, 2, 0x8b);
}

static uint32_t watched;
static uint64_t stood_at;

static bool has_marked(void)
{
    return records[watched].mark != 0;
}

static bool is_down(void)
{
    return vcpu_op(VCPUOP_IS_UP, watched, 0) == 0;
}

static bool has_counted(void)
{
    return records[watched].counter > stood_at;
}

static bool registers_are_as_given(const uint8_t *context, uint32_t vcpu, bool is_64)
{
    volatile const uint64_t *kept = &records[vcpu].ax;
    for (uint32_t reg = 0; reg < SEEDS; reg++) {
        uint64_t given = is_64 ? take(context, 8 + 8 * reg, 8) : take(context, 8 + 4 * reg, 4);
        if (kept[reg] != given)
            return false;
    }
    return true;
}

static void check_start(enum start_mode start, uint32_t vcpu)
{
    const struct mode *mode = &modes[start];
    uint8_t context[128];
    build_context(context, start, vcpu);
    memset((void *)&records[vcpu], 0, sizeof records[vcpu]);
    watched = vcpu;
    expect(0, initialise_after_init(vcpu, context), named(mode->name, "initialise"));
    expect(0, vcpu_op(VCPUOP_IS_UP, vcpu, 0), named(mode->name, "is not up yet"));
    expect(0, vcpu_op(VCPUOP_UP, vcpu, 0), named(mode->name, "up"));
    bool started = wait_until(has_marked, 3000);
    expect_true(started, named(mode->name, "starts"));
    if (!started)
        return;
    volatile const struct record *r = &records[vcpu];
    bool long_mode = start == START_64;
    expect_true(registers_are_as_given(context, vcpu, long_mode), named(mode->name, "registers"));
    expect_hex(mode->cr0, r->cr0 & ~CR0_ET, named(mode->name, "CR0"));
    expect_hex(root_of(start), r->cr3, named(mode->name, "CR3"));
    expect_hex(mode->cr4, r->cr4, named(mode->name, "CR4"));
    expect_hex(long_mode ? EFER_LME | EFER_LMA : 0, r->efer, named(mode->name, "EFER"));
    expect_hex(2, r->flags & ~0x8d5ull, named(mode->name, "flags"));
    expect_hex(0, r->cs | r->ds | r->ss | r->es, named(mode->name, "selectors"));
    expect(1, (int64_t)r->is_up, named(mode->name, "is up, by its own call"));
    expect(1, vcpu_op(VCPUOP_IS_UP, vcpu, 0), named(mode->name, "is up"));
    records[vcpu].stop = 1;
    expect_true(wait_until(is_down, 3000), named(mode->name, "goes down by HLT without interrupts"));
}

/* The reason to skip a mode, or 0. */
static const char *obstacle(enum start_mode mode)
{
    if (mode == START_PAE && !wanted("pae"))
        return "left out by the command line";
    if ((mode == START_32_PAGED || mode == START_PAE) && !pages_32_bit_code())
        return "this machine does not page outside long mode";
    return 0;
}

/* Resets them to the state after creation; INIT takes some time to arrive. */
static void reset_all(void)
{
    for (uint32_t vcpu = 1; vcpu < 4; vcpu++)
        lapic_send_init(2 * vcpu);
    wait_ms(50);
}

static void check_modes(void)
{
    for (enum start_mode mode = 0; mode < START_MODES; mode++) {
        const char *why = obstacle(mode);
        if (why == 0)
            check_start(mode, 1 + mode % 3);
        else
            gap(named(modes[mode].name, "start"), why);
    }
    reset_all();
}

static uint32_t count_up(void)
{
    uint32_t up = 0, vcpu = 0;
    int64_t answer;
    while ((answer = vcpu_op(VCPUOP_IS_UP, vcpu++, 0)) >= 0)
        up += answer == 1;
    return up;
}

static void check_three(void)
{
    static uint8_t context[128];
    for (uint32_t vcpu = 1; vcpu < 4; vcpu++) {
        build_context(context, START_32, vcpu);
        memset((void *)&records[vcpu], 0, sizeof records[vcpu]);
        expect(0, initialise_after_init(vcpu, context), named_number("initialise of vCPU", vcpu));
    }
    expect(1, count_up(), "one vCPU is up");
    for (uint32_t vcpu = 1; vcpu < 4; vcpu++) {
        watched = vcpu;
        stood_at = 0;
        expect(0, vcpu_op(VCPUOP_UP, vcpu, 0), named_number("up of vCPU", vcpu));
        expect_true(wait_until(has_counted, 3000), named_number("it runs, vCPU", vcpu));
    }
    expect(4, count_up(), "four vCPUs are up");
    watched = 2;
    expect(0, vcpu_op(VCPUOP_UP, 2, 0), "up of one that is up");
    expect(0, vcpu_op(VCPUOP_DOWN, 2, 0), "down of one");
    expect(3, count_up(), "three vCPUs are up");
    wait_ms(20);
    stood_at = records[2].counter;
    wait_ms(20);
    expect_true(records[2].counter == stood_at, "it stands still");
    expect(-EEXIST, vcpu_op(VCPUOP_INITIALISE, 2, AT(context)), "initialise of it");
    expect(0, vcpu_op(VCPUOP_DOWN, 2, 0), "down of it again");
    expect(0, vcpu_op(VCPUOP_UP, 2, 0), "up of it");
    expect_true(wait_until(has_counted, 3000), "it runs on from where it was");
    for (uint32_t vcpu = 1; vcpu < 4; vcpu++)
        expect(0, vcpu_op(VCPUOP_DOWN, vcpu, 0), named_number("down of vCPU", vcpu));
    expect(1, count_up(), "one vCPU is up again");
    lapic_send_init(2);
    build_context(context, START_32, 1);
    expect(0, initialise_after_init(1, context), "INIT lets one be initialised anew");
    int64_t result = 0;
    for (uint32_t i = 0; result == 0 && i < TRIES; i++) {
        reset_all();
        result = vcpu_op(VCPUOP_UP, 1, 0);
    }
    expect(-EINVAL, result, "after INIT it must be, before it goes up");
}

void check_secondaries(void)
{
    lapic_enable(true);
    check_modes();
    check_three();
}

void check_secondary_modes(void)
{
    check_modes();
}
