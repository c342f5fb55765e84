/* CPUID leaves, the hypercall MSR and the hypercall page. */
#include "conformance.h"

enum { SLOT = 32, SLOTS = 128, MOV_EAX = 0xb8, RET = 0xc3 };

static struct cpuid subleaf(uint32_t leaf, uint32_t sub)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "0"(leaf), "2"(sub));
    return r;
}

static void check_leaves(void)
{
    uint32_t base = xen_leaves;
    struct cpuid one = cpuid(1);
    expect_true(one.ecx >> 31, "CPUID.1 says that there is a hypervisor");
    expect(0, one.ebx >> 24, "CPUID.1 says APIC id 0 on vCPU 0");
    expect_hex(0x40000000, base, "the leaves begin at 0x40000000");
    expect(5, cpuid(base).eax - base, "leaf 0 names leaf 5 as the last");
    struct cpuid r = cpuid(base + 1);
    expect_hex(0x40011, r.eax, "leaf 1 says version 4.17");
    expect_hex(0, r.ebx | r.ecx | r.edx, "leaf 1 has no more");
    r = cpuid(base + 2);
    expect(1, r.eax, "leaf 2 says one hypercall page");
    expect_hex(0x40000000, r.ebx, "leaf 2 names the MSR 0x40000000");
    expect_hex(0, r.ecx, "leaf 2 has no feature for an HVM domain");
    expect_hex(0, r.edx, "leaf 2 has no edx");
    r = subleaf(base + 3, 0);
    expect_true(r.ebx <= 3, "leaf 3 has a TSC mode");
    expect_true(r.ecx > 1000, "leaf 3 has the TSC's kHz");
    expect_true(r.edx <= 1, "leaf 3 says that the domain did not migrate");
    r = subleaf(base + 3, 1);
    expect_true(r.ecx != 0, "leaf 3.1 has a multiplier");
    r = subleaf(base + 3, 2);
    expect_true(r.eax > 1000, "leaf 3.2 has the host's kHz");
    expect_hex(0, r.ebx | r.ecx | r.edx, "leaf 3.2 has no more");
    r = cpuid(base + 4);
    expect_hex(0x5c, r.eax & 0x5c, "leaf 4 has IOMMU mappings, vCPU id, domain id, upcall vector");
    expect(0, r.ebx, "leaf 4 says vCPU 0");
    expect_true(r.ecx > 0 && r.ecx < 0x7ff0, "leaf 4 has a domain id");
    expect_hex(0, r.edx, "leaf 4 has no edx");
    r = cpuid(base + 5);
    expect_hex(0, r.eax | r.ebx | r.ecx | r.edx, "leaf 5 is empty for an HVM domain");
    r = cpuid(base + 6);
    expect_hex(0, r.eax | r.ebx | r.ecx | r.edx, "a leaf past the last is empty");
}

static bool slot_is_sound(const uint8_t *page, uint32_t number)
{
    const uint8_t *slot = page + number * SLOT;
    if (slot[0] != MOV_EAX || take(slot, 1, 4) != number)
        return false;
    for (uint32_t i = 5; i < SLOT; i++)
        if (slot[i] == RET)
            return true;
    return false;
}

static void check_page(void)
{
    uint32_t msr = cpuid(xen_leaves + 2).ebx;
    expect_true(!try_write_msr(msr, AT(hypercall_page) | 1, 0), "page index 1 faults");
    expect_true(!try_write_msr(msr, BAD, 0), "a frame that is no RAM faults");
    expect_hex(0, read_msr(msr), "the MSR reads as 0");
    uint32_t unsound = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        if (i != IRET && !slot_is_sound(hypercall_page, i))
            unsound++;
    expect(0, unsound, "each slot loads its number and returns");
    expect_hex(0x0b0f, take(hypercall_page, IRET * SLOT, 2), "the slot of iret is UD2");
    expect_hex(0xcccccccc, take(hypercall_page, SLOT - 4, 4), "the rest of a slot is INT3");
    uint32_t other = scratch_frames(1);
    expect_true(try_write_msr(msr, other << 12, 0), "a second page can be filled");
    expect_true(slot_is_sound(frame(other), VCPU_OP), "the second page has its slots");
    expect(0x40011, call1(XEN_VERSION, 0), "the first page still works");
}

void check_platform(void)
{
    check_leaves();
    check_page();
}
