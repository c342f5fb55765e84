/* The demo guest: prints what it found at entry and what the ABI says about it, and powers off. */
#include "guest.h"
#include "start_info.h"

enum {
    MODULES_LIMIT = 64,       /* modules and memory map entries that are printed and checked */
    MEMMAP_LIMIT = 256,
    SUM_LIMIT = 64 << 10,     /* bytes of a module that are summed, at its beginning */
    TAIL_LIMIT = 4 << 10,     /* and at its end */
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MTRR_TYPE_AND_ENABLE = 0x8ff,
    MTRR_WRITE_BACK_ENABLED = 0x806,
    CPUID_MTRR = 1 << 12,
    CPUID_LONG_MODE = 1 << 29,
    CR0_PE = 1 << 0,
    CR0_ET = 1 << 4,          /* reads as 1 on every CPU of today */
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_VM = 1 << 17,
    /* Above the 256 MiB that a limit with a forgotten granularity bit or a short value leaves. */
    FAR_DATA = (256 << 20) + 1,
};
static const uint32_t MSR_EFER = 0xc0000080;

/* What the loader must have copied, and what it must have cleared. */
static volatile uint32_t copied = 0x900dda7a;
static volatile uint8_t cleared[5000];

static uint32_t start;
static uint64_t rsdp, memmap;
static uint32_t memmap_count;

static void field(const char *name, uint64_t value, unsigned digits)
{
    print(" ");
    print(name);
    print("=");
    print_hex(value, digits);
}

static void show_registers(void)
{
    print("registers:");
    field("eax", at_entry.eax, 8);
    field("ebx", at_entry.ebx, 8);
    field("ecx", at_entry.ecx, 8);
    field("edx", at_entry.edx, 8);
    field("esi", at_entry.esi, 8);
    field("edi", at_entry.edi, 8);
    field("ebp", at_entry.ebp, 8);
    field("esp", at_entry.esp, 8);
    print("\nregisters:");
    field("eflags", at_entry.eflags, 8);
    field("cr0", at_entry.cr0, 8);
    field("cr2", at_entry.cr2, 8);
    field("cr3", at_entry.cr3, 8);
    field("cr4", at_entry.cr4, 8);
    print("\nregisters:");
    field("cs", at_entry.cs, 4);
    field("ds", at_entry.ds, 4);
    field("es", at_entry.es, 4);
    field("fs", at_entry.fs, 4);
    field("gs", at_entry.gs, 4);
    field("ss", at_entry.ss, 4);
    field("tr", at_entry.tr, 4);
    field("ldtr", at_entry.ldtr, 4);
    print("\nregisters:");
    field("gdtr_base", at_entry.gdt_base, 8);
    field("gdtr_limit", at_entry.gdt_limit, 4);
    field("idtr_base", at_entry.idt_base, 8);
    field("idtr_limit", at_entry.idt_limit, 4);
    print("\n");
}

/* Asks CPUID before each, so that a CPU without the register is no fault. */
static void show_and_check_msrs(void)
{
    uint32_t eax, edx;
    checking = "model-specific registers can be read";
    cpuid(0x80000000, &eax, &edx);
    if (eax > 0x80000000) {
        cpuid(0x80000001, &eax, &edx);
        if (edx & CPUID_LONG_MODE) {
            print("registers:");
            field("efer", read_msr(MSR_EFER), 16);
            print("\n");
        }
    }
    cpuid(1, &eax, &edx);
    if (!(edx & CPUID_MTRR)) {
        check_skipped("MTRRs are enabled, default type write-back", "the CPU has none");
        return;
    }
    uint64_t type = read_msr(MSR_MTRR_DEF_TYPE);
    print("registers:");
    field("mtrr_def_type", type, 16);
    print("\n");
    check((type & MTRR_TYPE_AND_ENABLE) == MTRR_WRITE_BACK_ENABLED,
          "MTRRs are enabled, default type write-back");
}

static void check_registers(void)
{
    check((at_entry.cr0 & ~CR0_ET) == CR0_PE, "cr0: PE is set and every other writable bit clear");
    check(at_entry.cr4 == 0, "cr4: every bit is clear");
    check(!(at_entry.eflags & (FLAG_VM | FLAG_IF | FLAG_TF)), "eflags: VM, IF and TF are clear");
    check(copied == 0x900dda7a, "the data segment is as in the file");
    bool clear = true;
    for (uint32_t i = 0; i < sizeof cleared; i++)
        clear = clear && cleared[i] == 0;
    check(clear, "the bytes past the file's are zero");
}

static bool reachable(uint64_t at, uint64_t bytes)
{
    return at != 0 && at < 0x100000000 && bytes <= 0x100000000 - at;
}

static bool is_ram(uint64_t at, uint64_t bytes)
{
    for (uint32_t i = 0; i < memmap_count; i++) {
        uint32_t entry = (uint32_t)memmap + i * MEMMAP_BYTES;
        uint64_t from = read64(entry), size = read64(entry + MEMMAP_SIZE);
        if (read32(entry + MEMMAP_TYPE) == MEMMAP_TYPE_RAM && at >= from && at - from <= size &&
            bytes <= size - (at - from))
            return true;
    }
    return false;
}

static void show_text(const char *name, uint64_t at)
{
    print(name);
    if (at == 0)
        print("none");
    else if (!reachable(at, 1))
        print("out of reach");
    else
        print_string((uint32_t)at);
    print("\n");
}

static bool show_start_info(void)
{
    checking = "ebx: points to the start info";
    start = at_entry.ebx;
    bool found = reachable(start, 40) && read32(start) == START_MAGIC;
    check(found, checking);
    if (!found)
        return false;
    rsdp = read64(start + START_RSDP);
    print("start info:");
    field("version", read32(start + START_VERSION), 8);
    field("flags", read32(start + START_FLAGS), 8);
    field("module_count", read32(start + START_MODULE_COUNT), 8);
    field("modules", read64(start + START_MODULES), 16);
    print("\nstart info:");
    field("cmdline", read64(start + START_CMDLINE), 16);
    field("rsdp", rsdp, 16);
    print("\n");
    show_text("command line: ", read64(start + START_CMDLINE));
    return true;
}

static void show_memory_map(void)
{
    static const char clause[] = "memory map: in reach, reserved fields zero";
    checking = clause;
    if (read32(start + START_VERSION) < 1) {
        check_skipped(clause, "version 0 has none");
        return;
    }
    uint64_t table = read64(start + START_MEMMAP);
    uint32_t count = read32(start + START_MEMMAP_COUNT);
    bool good = read32(start + START_RESERVED) == 0;
    print("start info:");
    field("memmap", table, 16);
    field("memmap_count", count, 8);
    print("\n");
    if (count > MEMMAP_LIMIT)
        count = MEMMAP_LIMIT;
    if (!reachable(table, count * MEMMAP_BYTES)) {
        check(count == 0 && good, clause);
        return;
    }
    memmap = table;
    memmap_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t entry = (uint32_t)table + i * MEMMAP_BYTES;
        good = good && read32(entry + MEMMAP_RESERVED) == 0;
        print("memory:");
        field("start", read64(entry), 16);
        field("size", read64(entry + MEMMAP_SIZE), 16);
        field("type", read32(entry + MEMMAP_TYPE), 2);
        print("\n");
    }
    check(good, clause);
}

static uint32_t sum(uint32_t at, uint32_t bytes)
{
    uint32_t total = 0;
    while (bytes-- > 0)
        total += read8(at++);
    return total;
}

/* A line: address and size as told, sums of the first and last bytes, and the command line. */
static bool show_module(uint32_t entry)
{
    uint64_t at = read64(entry), size = read64(entry + MODULE_SIZE);
    print("module:");
    field("start", at, 16);
    field("size", size, 16);
    bool good = reachable(at, size) && read64(entry + MODULE_RESERVED) == 0;
    if (reachable(at, size)) {
        uint32_t head = size < SUM_LIMIT ? (uint32_t)size : SUM_LIMIT;
        uint32_t tail = size < TAIL_LIMIT ? (uint32_t)size : TAIL_LIMIT;
        field("head_sum", sum((uint32_t)at, head), 8);
        field("tail_sum", sum((uint32_t)(at + size) - tail, tail), 8);
    }
    show_text(" cmdline=", read64(entry + MODULE_CMDLINE));
    return good && (memmap_count == 0 || is_ram(at, size));
}

static void show_modules(void)
{
    static const char clause[] = "modules: in RAM and in reach, reserved fields zero";
    checking = clause;
    uint64_t table = read64(start + START_MODULES);
    uint32_t count = read32(start + START_MODULE_COUNT);
    if (count > MODULES_LIMIT)
        count = MODULES_LIMIT;
    bool good = count == 0 || reachable(table, count * MODULE_BYTES);
    for (uint32_t i = 0; i < count && reachable(table, count * MODULE_BYTES); i++)
        good = show_module((uint32_t)table + i * MODULE_BYTES) && good;
    check(good, clause);
}

/* Linux and Xen use the first word of the start info as their first stack. */
static bool is_writable(uint32_t at)
{
    volatile uint32_t *word = (volatile uint32_t *)at;
    uint32_t kept = *word;
    *word = ~kept;
    bool written = *word == ~kept;
    *word = kept;
    return written && *word == kept;
}

static void check_places(void)
{
    checking = "start info: writable, below 1 GiB";
    check(is_writable(start) && start < 1 << 30, checking);
    checking = "memory map: the image lies in RAM";
    uint32_t image = (uint32_t)image_start;
    if (memmap_count == 0)
        check_skipped(checking, "there is none");
    else
        check(is_ram(image, (uint32_t)image_end - image), checking);
    checking = "rsdp: points to an ACPI root pointer";
    if (rsdp == 0)
        check_skipped(checking, "none is given");
    else
        check(reachable(rsdp, 36) && acpi_rsdp_is_sound((uint32_t)rsdp), checking);
}

#define READ_BY(segment, at, value) \
    __asm__ volatile("movl %%" segment ":(%1), %0" : "=r"(value) : "r"(at) : "memory")
#define WRITE_BY(segment, at, value) \
    __asm__ volatile("movl %0, %%" segment ":(%1)" : : "r"(value), "r"(at) : "memory")

/* Each data segment writes what the others read; a base or a limit that is not flat shows. */
static bool segments_meet_at(uint32_t at)
{
    uint32_t kept, by_ds, by_es, by_ss, by_cs;
    bool good = true;
    READ_BY("ds", at, kept);
    for (uint32_t round = 1; round <= 3; round++) {
        uint32_t mark = 0x5e600000 + round;
        if (round == 1)
            WRITE_BY("ds", at, mark);
        else if (round == 2)
            WRITE_BY("es", at, mark);
        else
            WRITE_BY("ss", at, mark);
        READ_BY("ds", at, by_ds);
        READ_BY("es", at, by_es);
        READ_BY("ss", at, by_ss);
        READ_BY("cs", at, by_cs);
        good = good && by_ds == mark && by_es == mark && by_ss == mark && by_cs == mark;
    }
    WRITE_BY("ds", at, kept);
    return good;
}

static void check_segments_at(uint64_t at, const char *clause)
{
    checking = clause;
    if (is_ram(at, 4))
        check(segments_meet_at((uint32_t)at), clause);
    else
        check_skipped(clause, "no RAM is known there");
}

/* The last four bytes of RAM below 4 GiB. */
static uint64_t last_ram(void)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < memmap_count; i++) {
        uint32_t entry = (uint32_t)memmap + i * MEMMAP_BYTES;
        uint64_t end = read64(entry) + read64(entry + MEMMAP_SIZE);
        if (end > 0x100000000 && read64(entry) < 0x100000000)
            end = 0x100000000;
        if (end <= 0x100000000 && end > last && end >= 4 && is_ram(end - 4, 4))
            last = end;
    }
    return last >= 4 ? last - 4 : 0;
}

static void check_segments(void)
{
    static uint32_t probe;
    checking = "cs, ds, es, ss: flat, in the image";
    check(segments_meet_at((uint32_t)&probe), checking);
    check_segments_at(FAR_DATA, "cs, ds, es, ss: flat, at 256 MiB and 1 byte");
    check_segments_at(last_ram(), "cs, ds, es, ss: flat, at the end of RAM below 4 GiB");
}

void guest_main(void)
{
    console_open();
    print("\nPVH demo: begin\n");
    show_registers();
    check_registers();
    show_and_check_msrs();
    if (show_start_info()) {
        show_memory_map();
        show_modules();
        check_places();
    }
    check_segments();
    guest_end();
}

void guest_end(void)
{
    uint32_t failed = failed_checks();
    if (failed == 0) {
        print("PVH demo: ok\n");
    } else {
        print("PVH demo: failed checks: ");
        print_number(failed);
        print("\n");
    }
    checking = "ACPI tables can be read";
    acpi_power_off(rsdp);
    print("PVH demo: halted\n");
}
