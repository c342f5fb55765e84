/* CPUID: what PVH guests use without asking, and that it agrees with what they find. */
#include "plain.h"

struct feature {
    const char *name;
    uint8_t bit;
};

static const struct feature features[] = {
    {"CPUID shows the time stamp counter", 4}, {"CPUID shows model-specific registers", 5},
    {"CPUID shows physical address extension", 6}, {"CPUID shows CMPXCHG8B", 8},
    {"CPUID shows a local APIC", 9}, {"CPUID shows global pages", 13}, {"CPUID shows CMOV", 15},
};

void check_cpuid(void)
{
    group("cpuid");
    struct cpuid one = cpuid(1);
    clause("guests: features that they use without asking");
    holds("the highest leaf is at least 1", cpuid(0).eax >= 1, "1 or more", cpuid(0).eax);
    for (uint32_t i = 0; i < sizeof features / sizeof *features; i++)
        bits_set(features[i].name, one.edx, 1u << features[i].bit);
    clause("cpuid.h: a guest can tell that it runs on a hypervisor");
    bits_set("CPUID shows a hypervisor", one.ecx, 1u << 31);
    struct cpuid base = cpuid(0x40000000);
    holds("the hypervisor's leaves have a signature", base.ebx != 0, "a signature", base.ebx);
    clause("SDM: CPUID agrees with the machine");
    bits_clear("CPUID's OSXSAVE is cr4's", one.ecx, 1 << 27);
    holds("CPUID's APIC bit is the one of IA32_APIC_BASE",
          !captured.has_lapic || captured.apic_base >> 11 & 1, "both set", captured.apic_base);
    uint32_t most = cpuid(0x80000000).eax;
    if (most >= 0x80000008) {
        uint32_t bits = cpuid(0x80000008).eax & 0xff;
        holds("the physical address has 32 to 52 bits", bits >= 32 && bits <= 52, "32 to 52", bits);
    } else {
        skip("the physical address has 32 to 52 bits", "the CPU has no such leaf");
    }
}
