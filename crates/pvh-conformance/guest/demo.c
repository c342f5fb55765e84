/* The demo guest: prints what it found at entry and what the ABI says about it, and powers off. */
#include "start_info.h"

enum {
    MODULES_LIMIT = 64,       /* modules and memory map entries that are printed and checked */
    MEMMAP_LIMIT = 256,
    SUM_LIMIT = 64 << 10,     /* bytes summed at the start of a module */
    TAIL_LIMIT = 4 << 10,     /* bytes summed at its end */
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MTRR_TYPE_AND_ENABLE = 0x8ff,
    MTRR_WRITE_BACK_ENABLED = 0x806,
    CPUID_MTRR = 1 << 12,
    CPUID_LONG_MODE = 1 << 29,
    CR0_PE = 1 << 0,
    CR0_ET = 1 << 4,          /* reads as 1 on every current CPU */
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_VM = 1 << 17,
    /* Above 256 MiB: a limit without its granularity bit, or a truncated one, ends below this address. */
    FAR_DATA = (256 << 20) + 1,
};
static const uint32_t MSR_EFER = 0xc0000080;

/* Data that the loader must copy, and data that it must clear. */
static volatile uint32_t copied = 0x900dda7a;
static volatile uint8_t cleared[5000];

static struct start_info start;
/* The readable part of the memory map; empty until the map has been checked. */
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

/* Asks CPUID before each register, so that a CPU without it causes no fault. */
static void show_and_check_msrs(void)
{
    checking = "model-specific registers can be read";
    if (cpuid(0x80000000).eax > 0x80000000 && cpuid(0x80000001).edx & CPUID_LONG_MODE) {
        print("registers:");
        field("efer", read_msr(MSR_EFER), 16);
        print("\n");
    }
    if (!(cpuid(1).edx & CPUID_MTRR)) {
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
    check((at_entry.cr0 | CR0_ET) == (CR0_PE | CR0_ET), "cr0: PE is set and every other writable bit clear");
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

static struct memmap_entry memmap_entry(uint32_t index)
{
    return read_memmap_entry((uint32_t)start.memmap + index * MEMMAP_BYTES);
}

static bool is_ram(uint64_t at, uint64_t bytes)
{
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        if (entry.type == MEMMAP_TYPE_RAM && at >= entry.at && at - entry.at <= entry.size &&
            bytes <= entry.size - (at - entry.at))
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
    bool found = reachable(at_entry.ebx, START_INFO_BYTES) && read32(at_entry.ebx) == START_MAGIC;
    check(found, checking);
    if (!found)
        return false;
    start = read_start_info(at_entry.ebx);
    print("start info:");
    field("version", start.version, 8);
    field("flags", start.flags, 8);
    field("module_count", start.module_count, 8);
    field("modules", start.modules, 16);
    print("\nstart info:");
    field("cmdline", start.cmdline, 16);
    field("rsdp", start.rsdp, 16);
    print("\n");
    show_text("command line: ", start.cmdline);
    return true;
}

static void show_memory_map(void)
{
    static const char clause[] = "memory map: in reach, reserved fields zero";
    checking = clause;
    if (!start.has_memmap) {
        check_skipped(clause, "this version has none");
        return;
    }
    print("start info:");
    field("memmap", start.memmap, 16);
    field("memmap_count", start.memmap_count, 8);
    print("\n");
    uint32_t count = start.memmap_count < MEMMAP_LIMIT ? start.memmap_count : MEMMAP_LIMIT;
    bool good = start.reserved == 0;
    if (!reachable(start.memmap, count * MEMMAP_BYTES)) {
        check(count == 0 && good, clause);
        return;
    }
    memmap_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        good = good && entry.reserved == 0;
        print("memory:");
        field("start", entry.at, 16);
        field("size", entry.size, 16);
        field("type", entry.type, 2);
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

/* Prints a line: address and size from the start info, sums of the first and last bytes, the command line. */
static bool show_module(struct module module)
{
    bool in_reach = reachable(module.at, module.size);
    print("module:");
    field("start", module.at, 16);
    field("size", module.size, 16);
    if (in_reach) {
        uint32_t head = module.size < SUM_LIMIT ? (uint32_t)module.size : SUM_LIMIT;
        uint32_t tail = module.size < TAIL_LIMIT ? (uint32_t)module.size : TAIL_LIMIT;
        field("head_sum", sum((uint32_t)module.at, head), 8);
        field("tail_sum", sum((uint32_t)(module.at + module.size) - tail, tail), 8);
    }
    show_text(" cmdline=", module.cmdline);
    return in_reach && (memmap_count == 0 || is_ram(module.at, module.size));
}

static void show_modules(void)
{
    static const char clause[] = "modules: in reach, and in RAM if there is a memory map";
    checking = clause;
    uint32_t count = start.module_count < MODULES_LIMIT ? start.module_count : MODULES_LIMIT;
    if (!reachable(start.modules, count * MODULE_BYTES)) {
        check(count == 0, clause);
        return;
    }
    bool placed = true, reserved = true;
    for (uint32_t i = 0; i < count; i++) {
        struct module module = read_module((uint32_t)start.modules + i * MODULE_BYTES);
        placed = show_module(module) && placed;
        reserved = reserved && module.reserved == 0;
    }
    check(placed, clause);
    check(reserved, "modules: reserved fields zero");
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
    check(is_writable(at_entry.ebx) && at_entry.ebx < 1 << 30, checking);
    checking = "memory map: the image lies in RAM";
    uint32_t image = (uint32_t)image_start;
    if (memmap_count == 0)
        check_skipped(checking, "there is none");
    else
        check(is_ram(image, (uint32_t)image_end - image), checking);
    checking = "rsdp: points to an ACPI root pointer";
    if (start.rsdp == 0)
        check_skipped(checking, "none is given");
    else
        check(reachable(start.rsdp, 36) && acpi_rsdp_is_sound((uint32_t)start.rsdp), checking);
}

#define READ_BY(segment, at, value) \
    __asm__ volatile("movl %%" segment ":(%1), %0" : "=r"(value) : "r"(at) : "memory")
#define WRITE_BY(segment, at, value) \
    __asm__ volatile("movl %0, %%" segment ":(%1)" : : "r"(value), "r"(at) : "memory")

/* Each data segment writes what the others read, which shows a base or a limit that is not flat. */
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
        struct memmap_entry entry = memmap_entry(i);
        uint64_t end = entry.at + entry.size;
        if (end > 0x100000000 && entry.at < 0x100000000)
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
    checking = "the machine can be powered off";
    if (acpi_power_off(start.rsdp) || xen_power_off())
        print("power off: had no effect\n");
    print("PVH demo: halted\n");
}
