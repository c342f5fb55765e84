/* vcpu_hvm_context: what VCPUOP_initialise accepts and refuses. */
#include "secondary.h"

enum { VCPU = 3, MODE = 0, PAD = 4, EIP = 40, CR4 = 56, PAD1 = 60, EFER = 64, CS_LIMIT = 92, CS = 112, DS = 114,
       SS = 116, ES = 118, TR = 120, RIP = 72, CR0_64 = 88, CR4_64 = 104, EFER_64 = 112 };

struct patch {
    uint8_t offset, bytes;
    uint64_t value;
};

struct change {
    const char *name;
    struct patch first, second;
};

static const struct change refused_32[] = {
    {"pad", {PAD, 4, 1}, {0}},
    {"mode 2", {MODE, 4, 2}, {0}},
    {"mode 0xffffffff", {MODE, 4, 0xffffffff}, {0}},
    {"pad1", {PAD1, 4, 1}, {0}},
    {"pad2, first word", {122, 2, 1}, {0}},
    {"pad2, second word", {124, 2, 1}, {0}},
    {"pad2, third word", {126, 2, 0x8000}, {0}},
    {"cs with bit 12", {CS, 2, 0x1c9b}, {0}},
    {"ds with bit 13", {DS, 2, 0x2c93}, {0}},
    {"ss with bit 14", {SS, 2, 0x4c93}, {0}},
    {"es with bit 15", {ES, 2, 0x8c93}, {0}},
    {"tr with bit 12", {TR, 2, 0x108b}, {0}},
    {"cs of 0", {CS, 2, 0}, {0}},
    {"ss of 0", {SS, 2, 0}, {0}},
    {"tr of 0", {TR, 2, 0}, {0}},
    {"cs of a system segment", {CS, 2, 0xc8b}, {0}},
    {"ds of a system segment", {DS, 2, 0xc83}, {0}},
    {"ss of a system segment", {SS, 2, 0xc83}, {0}},
    {"es of a system segment", {ES, 2, 0xc83}, {0}},
    {"cs not present", {CS, 2, 0xc1b}, {0}},
    {"ds not present", {DS, 2, 0xc13}, {0}},
    {"ss not present", {SS, 2, 0xc13}, {0}},
    {"es not present", {ES, 2, 0xc13}, {0}},
    {"cs of data", {CS, 2, 0xc93}, {0}},
    {"ss of code", {SS, 2, 0xc9b}, {0}},
    {"ss read-only", {SS, 2, 0xc91}, {0}},
    {"ds execute-only", {DS, 2, 0xc99}, {0}},
    {"es execute-only", {ES, 2, 0xc99}, {0}},
    {"tr of a busy 16-bit TSS", {TR, 2, 0x83}, {0}},
    {"tr of a 16-bit TSS", {TR, 2, 0x81}, {0}},
    {"tr of an LDT", {TR, 2, 0x82}, {0}},
    {"tr of a code segment", {TR, 2, 0x9b}, {0}},
    {"tr not present", {TR, 2, 0x0b}, {0}},
    {"eip past the limit", {CS, 2, 0x49b}, {CS_LIMIT, 4, 0xffff}},
    {"eip past the limit in pages", {CS_LIMIT, 4, 0xf}, {0}},
    {"ss of another DPL than cs", {SS, 2, 0xcf3}, {0}},
    {"ds of a DPL above cs", {DS, 2, 0xcf3}, {0}},
    {"es of a DPL above cs", {ES, 2, 0xcf3}, {0}},
    {"EFER.LMA without LME", {EFER, 8, 0x400}, {0}},
    {"EFER bit 1", {EFER, 8, 2}, {0}},
    {"EFER bit 63", {EFER, 8, 1ull << 63}, {0}},
    {"CR4 bit 31", {CR4, 4, 0x80000000}, {0}},
    {"CR4.LA57", {CR4, 4, 0x1000}, {0}},
};

static const struct change accepted_32[] = {
    {"ds of 0", {DS, 2, 0}, {0}},
    {"es of 0", {ES, 2, 0}, {0}},
    {"ds without accessed", {DS, 2, 0xc92}, {0}},
    {"ds of readable code", {DS, 2, 0xc9b}, {0}},
    {"cs conforming", {CS, 2, 0xc9f}, {0}},
    {"cs execute-only", {CS, 2, 0xc99}, {0}},
    {"tr of an available TSS", {TR, 2, 0x89}, {0}},
    {"all segments of DPL 3", {CS, 2, 0xcfb}, {SS, 2, 0xcf3}},
    {"EFER.LME without paging", {EFER, 8, 0x100}, {0}},
};

static const struct change refused_64[] = {
    {"64-bit, pad", {PAD, 4, 1}, {0}},
    {"64-bit, rip not canonical", {RIP, 8, 1ull << 47}, {0}},
    {"64-bit, CR0.PG clear", {CR0_64, 8, 1}, {0}},
    {"64-bit, CR4.PAE clear", {CR4_64, 8, 0}, {0}},
    {"64-bit, EFER.LME clear", {EFER_64, 8, 0}, {0}},
    {"64-bit, EFER.LMA without LME", {EFER_64, 8, 0x400}, {0}},
    {"64-bit, EFER bit 1", {EFER_64, 8, 0x102}, {0}},
    {"64-bit, CR4 bit 31", {CR4_64, 8, 0x80000020}, {0}},
    {"64-bit, CR4 bit 32", {CR4_64, 8, 1ull << 32 | 0x20}, {0}},
    {"64-bit, CR4.LA57", {CR4_64, 8, 0x1020}, {0}},
};

static void apply(uint8_t *context, struct patch patch)
{
    put(context, patch.offset, patch.bytes, patch.value);
}

static void check_changes(const struct change *changes, uint32_t count, enum start_mode mode, int64_t want)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t context[128] = {0};
        build_context(context, mode, VCPU);
        apply(context, changes[i].first);
        apply(context, changes[i].second);
        expect(want, initialise_after_init(VCPU, context), changes[i].name);
    }
}

void check_contexts(void)
{
    uint8_t context[128];
    lapic_enable(true);
    build_context(context, START_32, VCPU);
    expect(-EFAULT, vcpu_op(VCPUOP_INITIALISE, VCPU, BAD), "initialise with a bad pointer");
    expect(-ENOENT, vcpu_op(VCPUOP_INITIALISE, NO_VCPU, AT(context)), "initialise of no vCPU");
    expect(-EEXIST, vcpu_op(VCPUOP_INITIALISE, 0, AT(context)), "initialise of the caller");
    check_changes(refused_32, COUNT(refused_32), START_32, -EINVAL);
    check_changes(accepted_32, COUNT(accepted_32), START_32, 0);
    check_changes(refused_64, COUNT(refused_64), START_64, -EINVAL);
    expect(0, initialise_after_init(VCPU, context), "initialise");
    expect(0, vcpu_op(VCPUOP_IS_UP, VCPU, 0), "a vCPU that is initialised is not up");
    expect(-EEXIST, vcpu_op(VCPUOP_INITIALISE, VCPU, AT(context)), "initialise again");
    lapic_send_init(2 * VCPU);
    expect(0, initialise_after_init(VCPU, context), "initialise after INIT");
    lapic_send_init(2 * VCPU);
}
