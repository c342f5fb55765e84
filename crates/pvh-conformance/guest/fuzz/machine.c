/* Ports, memory-mapped devices, MSRs, CPUID, the local APIC and page tables. */
#include "fuzz.h"

enum {
    LAPIC = 0xfee00000,
    ICR_LOW = 0x300,
    ICR_HIGH = 0x310,
    TABLE_ENTRIES = 1024,
    LARGE = 0x83, /* present, writable, 4 MiB */
    CR4_PSE = 0x10,
};

/* Ports that end the machine or the report, and the one that makes hypercalls. */
static bool is_left_out(uint16_t port)
{
    return port == 0x64 || port == 0x92 || port == 0xcf9 || (port >= 0xe4 && port <= 0xe9) || (port >= 0x3f0 && port <= 0x3ff) ||
           port == 0x501 || (port >= 0x600 && port <= 0x60f) || port == 0xb004 || port == 0xb2 || port == 0xcfa || port == 0xcf8;
}

uint32_t step_port(const struct step *step)
{
    static const uint16_t known[] = {0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x70, 0x71, 0x80, 0x2f8, 0x2fb, 0x2fd, 0xcfc, 0x4d0, 0xa1};
    uint16_t port = step->a & 1 ? known[step->words[0] % (sizeof known / sizeof known[0])] : (uint16_t)step->words[0];
    uint32_t value = step->words[1];
    if (is_left_out(port) || is_left_out((uint16_t)(port + 1)) || is_left_out((uint16_t)(port + 3)))
        return 0;
    switch (step->b % 6) {
    case 0:
        return in8(port);
    case 1:
        return in16(port);
    case 2:
        __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
        return value;
    case 3:
        out8(port, (uint8_t)value);
        return 0;
    case 4:
        out16(port, (uint16_t)value);
        return 0;
    default:
        __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
        return 0;
    }
}

/* Holes of the address space, and devices that the guest may have. */
uint32_t step_mmio(const struct step *step)
{
    static const uint32_t bases[] = {0xa0000, 0xf0000000, 0xfec00000, 0xfed00000, 0xfc000000, 0x80000000, 0xfeff8000, 0xfffff000};
    uint32_t at = bases[step->a % (sizeof bases / sizeof bases[0])] + (step->words[0] & 0xff8);
    switch (step->b & 3) {
    case 0:
        return *(volatile uint32_t *)at;
    case 1:
        return *(volatile uint8_t *)(at + 1);
    case 2:
        *(volatile uint16_t *)at = (uint16_t)step->words[1];
        return 0;
    default:
        /* Frames that Xen shares are for the ring's steps. */
        if (at < 0xfef00000 || at >= 0xfff00000)
            *(volatile uint32_t *)at = step->words[1];
        return 0;
    }
}

uint32_t step_msr(const struct step *step)
{
    static const uint32_t known[] = {0x10, 0xfe, 0x174, 0x1a0, 0x200, 0x250, 0x277, 0x2ff, 0x40000001, 0x40000020, 0xc0000081, 0xc0000103};
    uint32_t msr = step->a & 1 ? known[step->words[0] % (sizeof known / sizeof known[0])] : step->words[0];
    if (step->b & 1)
        return (uint32_t)read_msr(msr);
    /* Not those that switch the local APIC or the mode, and no page written at a wild place. */
    if (msr == 0x1b || msr == 0xc0000080 || msr == 0x40000000 || (msr >= 0x4b564d00 && msr < 0x4b564e00) || msr == 0x11 || msr == 0x12)
        return 0;
    write_msr(msr, step->words[1] | (uint64_t)(step->b >> 1) << 32);
    return 0;
}

uint32_t step_cpuid(const struct step *step)
{
    uint32_t leaf = step->a & 1 ? 0x40000000 + (step->words[0] & 0x1ff) : step->words[0];
    struct cpuid r = cpuid(leaf);
    return r.eax ^ r.ebx ^ r.ecx ^ r.edx;
}

static uint32_t lapic(uint32_t offset)
{
    return *(volatile uint32_t *)(LAPIC + offset);
}

/* INIT and SIPI go to other processors only, and a start-up interrupt to the trampoline. */
uint32_t step_lapic(const struct step *step)
{
    uint32_t offset = (step->words[0] & 0x3f) << 4;
    switch (step->b % 4) {
    case 0:
        return lapic(offset);
    case 1:
    case 2: {
        uint32_t target = (1 + step->words[0] % (VCPUS - 1)) << (step->a & 1);
        *(volatile uint32_t *)(LAPIC + ICR_HIGH) = target << 24;
        *(volatile uint32_t *)(LAPIC + ICR_LOW) = step->b % 4 == 1 ? 0x4500 : 0x4600 | TRAMPOLINE >> 12;
        return 0;
    }
    default:
        if (offset == ICR_LOW || offset == ICR_HIGH)
            return 0;
        *(volatile uint32_t *)(LAPIC + offset) = step->words[1];
        return 0;
    }
}

static uint32_t directory[TABLE_ENTRIES] __attribute__((aligned(4096)));
static bool has_paging;

/* Every address is its own, but the alias: 4 MiB each, so this needs no tables. */
static void start_paging(void)
{
    uint32_t cr4, cr0;
    for (uint32_t i = 0; i < TABLE_ENTRIES; i++)
        directory[i] = i << 22 | LARGE;
    __asm__ volatile("movl %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("movl %0, %%cr4" : : "r"(cr4 | CR4_PSE));
    __asm__ volatile("movl %0, %%cr3" : : "r"(directory));
    __asm__ volatile("movl %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("movl %0, %%cr0" : : "r"(cr0 | 0x80000000) : "memory");
    has_paging = true;
}

uint32_t step_tables(const struct step *step)
{
    if (!has_paging) {
        if ((cpuid(1).edx & 8) == 0)
            return 0;
        start_paging();
        return 1;
    }
    uint32_t entry = ALIAS / 0x400000 + (step->a & 1);
    switch (step->b & 7) {
    case 0:
        directory[entry] = 0;
        break;
    case 1:
        /* No large page that shows the image. */
        directory[entry] = step->words[0] & 0x80 ? step->words[0] | ARENA : step->words[0];
        break;
    case 2:
        directory[entry] = (ARENA & ~0x3fffffu) | 7; /* a table of arena bytes */
        break;
    case 3:
        directory[entry] = (ARENA & ~0x3fffffu) | LARGE | (step->words[0] & 0x1ff);
        break;
    default:
        directory[entry] = (ARENA & ~0x3fffffu) | LARGE;
    }
    __asm__ volatile("movl %0, %%cr3" : : "r"(directory) : "memory");
    return *(volatile uint32_t *)(ALIAS + (step->words[1] & 0x7ffffc));
}
