/* Model-specific registers: memory types, the local APIC's base, EFER. */
#include "plain.h"

enum {
    WRITE_BACK = 6,
    DEF_FIXED = 1 << 10,
    DEF_ENABLED = 1 << 11,
    MASK_VALID = 1 << 11,
    BASE_BSP = 1 << 8,
    BASE_X2APIC = 1 << 10,
    BASE_ENABLED = 1 << 11,
};

/* The type of a page above 1 MiB. Variable ranges that overlap: uncached wins, then write-through. */
static uint32_t memory_type(uint64_t at)
{
    uint32_t type = 0x100;
    for (uint32_t i = 0; i < captured.mtrr_variables; i++) {
        uint64_t mask = captured.mtrr_mask[i] & 0xffffffffff000ull;
        if (!(captured.mtrr_mask[i] & MASK_VALID) || ((at ^ captured.mtrr_base[i]) & mask) != 0)
            continue;
        uint32_t range = captured.mtrr_base[i] & 0xff;
        if (type == 0x100 || range == 0 || (range == 4 && type == WRITE_BACK))
            type = range;
    }
    return type == 0x100 ? captured.mtrr_def_type & 0xff : type;
}

static void check_type(const char *name, uint64_t at)
{
    if (at == 0)
        skip(name, "no such RAM is known");
    else
        equal(name, WRITE_BACK, memory_type(at));
}

static void check_fixed(void)
{
    static const char name[] = "RAM below 640 KiB is write-back";
    if (!(captured.mtrr_def_type & DEF_FIXED)) {
        skip(name, "the fixed ranges are off");
        return;
    }
    equal(name, 0x0606060606060606, captured.mtrr_fixed[0]);
}

static void check_mtrrs(void)
{
    uint64_t high = 0, low = 0;
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        if (entry.type != MEMMAP_TYPE_RAM || entry.size < 4096)
            continue;
        uint64_t last = entry.at + entry.size - 4096;
        if (last > 0xffffffff)
            high = last > high ? last : high;
        else
            low = last > low ? last : low;
    }
    clause("pvh.pandoc: initial MTRR state");
    if (!captured.has_mtrrs) {
        skip("the MTRRs are enabled", "the CPU has none");
        skip("the default type is write-back", "the CPU has none");
    } else {
        bits_set("the MTRRs are enabled", captured.mtrr_def_type, DEF_ENABLED);
        equal("the default type is write-back", WRITE_BACK, captured.mtrr_def_type & 0xff);
        bits_clear("IA32_MTRR_DEF_TYPE: reserved bits are clear", captured.mtrr_def_type, ~0xcffull);
        check_fixed();
        check_type("RAM at 1 MiB is write-back", 0x100000);
        check_type("the last RAM below 4 GiB is write-back", low);
        check_type("the last RAM above 4 GiB is write-back", high);
    }
}

static void check_apic_base(void)
{
    clause("pvh.pandoc: secondary processors start through the local APIC");
    if (!captured.has_lapic) {
        skip("the local APIC is enabled", "CPUID says that there is none");
        return;
    }
    bits_set("the local APIC is enabled", captured.apic_base, BASE_ENABLED);
    equal("its registers are at 0xfee00000", LAPIC, captured.apic_base & ~0xfffull);
    bits_set("this is the boot processor", captured.apic_base, BASE_BSP);
    bits_clear("it is not in x2APIC mode", captured.apic_base, BASE_X2APIC);
    bits_clear("IA32_APIC_BASE: reserved bits are clear", captured.apic_base, 0x2ff);
}

static void check_efer(void)
{
    clause("guests: EFER (they set bits in it and keep the others)");
    if (!captured.has_long_mode) {
        skip("EFER.SCE is clear", "the CPU has no EFER");
        return;
    }
    bits_clear("EFER.SCE is clear", captured.efer, 1 << 0);
    bits_clear("EFER.LME is clear", captured.efer, 1 << 8);
    bits_clear("EFER.LMA is clear", captured.efer, 1 << 10);
    bits_clear("EFER.NXE is clear", captured.efer, 1 << 11);
    bits_clear("EFER.SVME is clear", captured.efer, 1 << 12);
    bits_clear("EFER: other bits are clear", captured.efer, ~0x1d01ull);
}

void check_msrs(void)
{
    group("msrs");
    check_mtrrs();
    check_apic_base();
    check_efer();
    clause("x86: the page attribute table after reset");
    if (captured.has_pat)
        equal("IA32_PAT has its reset value", 0x0007040600070406, captured.pat);
    else
        skip("IA32_PAT has its reset value", "the CPU has none");
}
