/* Shared by all guest images. Integers only, no library; paging is off, so a pointer is an address. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The registers at the first instruction; entry.S uses the offsets. */
struct at_entry {
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp, eflags, cr0, cr2, cr3, cr4;
    uint16_t cs, ds, es, fs, gs, ss, tr, ldtr;
    uint16_t gdt_limit;
    uint32_t gdt_base;
    uint16_t idt_limit;
    uint32_t idt_base;
} __attribute__((packed));

extern const struct at_entry at_entry;
extern const uint8_t image_start[], image_end[];

/* Called by entry.S; returning halts. */
void guest_main(void);
/* Ends the report, also after an exception; returning halts. */
void guest_end(void);

/* Memory that others wrote: it is read byte by byte, because it may be unaligned. */
static inline uint8_t read8(uint32_t at)
{
    return *(const volatile uint8_t *)at;
}

static inline uint16_t read16(uint32_t at)
{
    return (uint16_t)(read8(at) | read8(at + 1) << 8);
}

static inline uint32_t read32(uint32_t at)
{
    return read16(at) | (uint32_t)read16(at + 2) << 16;
}

static inline uint64_t read64(uint32_t at)
{
    return read32(at) | (uint64_t)read32(at + 4) << 32;
}

/* Port I/O. */
static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

/* Model-specific registers and CPUID. A missing register causes a fault, so ask CPUID first. */
static inline uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "0"(leaf), "2"(0));
    return r;
}

/* console.c: COM1, or port 0xE9 where there is no COM1. */
void console_open(void);
/* Makes all output go there instead. */
void console_divert(void (*to)(char));
void print(const char *text);
void print_hex(uint64_t value, unsigned digits);
enum { DIGITS = 11 };
/* Writes a number into `digits`; returns its first digit. */
const char *decimal(char digits[DIGITS], uint32_t value);
void print_number(uint32_t value);
/* The texts one behind the other, at most 95 bytes, until the next call. */
const char *joined(const char *a, const char *b, const char *c, const char *d);
/* Prints a string in quotes up to a NUL; unprintable bytes as \xNN; "..." after it if a limit cut it. */
void print_string(uint32_t at);

/* check.c: one verdict for each clause. */
extern const char *checking; /* the check that a fault would interrupt */
void check(bool good, const char *clause);
void check_skipped(const char *clause, const char *why);
uint32_t failed_checks(void);

/* acpi.c */
bool acpi_rsdp_is_sound(uint32_t rsdp);
/* Finds a table in the XSDT, or in the RSDT if there is no XSDT; 0 if there is none. */
uint32_t acpi_table(uint32_t rsdp, const char *signature);
/* Powers off. If it returns, powering off failed; the result says whether it tried. */
bool acpi_power_off(uint64_t rsdp);

/* xen.c: powers off by a hypercall. */
bool xen_power_off(void);

#endif
