/* Starts each secondary processor by INIT and SIPI, and looks at how it begins. */
#include "plain.h"

enum {
    LOCAL_APIC = 0,
    ENABLED = 1,
    PROCESSORS_LIMIT = 8,    /* that are started, beside the boot processor */
    PAGE = 4096,
    LOW_END = 0xa0000,
    ICR_PENDING = 1 << 12,
    ICR_INIT = 0x4500,       /* level, assert */
    ICR_SIPI = 0x4600,
    WAITS = 40000,           /* accesses to a port that does nothing: a few hundredths of a second at least */
    MOST_WAITS = 20000000,   /* also where the time stamp counter stands still */
    INIT_WAITS = 4000,
    NOTHING = 0x80,
};

/* What the processor that was started last found. */
static volatile struct {
    uint32_t starts, cs, cr0, lapic_id, cpuid_id, version;
    uint64_t apic_base, mtrr_def_type;
} started;

void ap_main(uint32_t cs, uint32_t cr0);

/* Called by entry.S on the secondary processor; it halts when this returns. */
void ap_main(uint32_t cs, uint32_t cr0)
{
    started.cs = cs & 0xffff;
    started.cr0 = cr0;
    started.cpuid_id = cpuid(1).ebx >> 24;
    started.apic_base = read_msr(MSR_APIC_BASE);
    started.lapic_id = *(volatile uint32_t *)(LAPIC + LAPIC_ID) >> 24;
    started.version = *(volatile uint32_t *)(LAPIC + LAPIC_VERSION);
    if (captured.has_mtrrs)
        started.mtrr_def_type = read_msr(MSR_MTRR_DEF_TYPE);
    __asm__ volatile("lock incl %0" : "+m"(started.starts) : : "memory");
}

static uint32_t to_start[PROCESSORS_LIMIT], count, listed;

static void visit(uint32_t at, uint8_t type, uint8_t bytes)
{
    if (type != LOCAL_APIC || bytes != 8 || !(read32(at + 4) & ENABLED) || read8(at + 3) == cpuid(1).ebx >> 24)
        return;
    listed++;
    if (count < PROCESSORS_LIMIT)
        to_start[count++] = read8(at + 3);
}

/* A page of RAM below 640 KiB that neither the structure nor anything it names lies in; 0 if there is none. */
static uint32_t free_page(void)
{
    for (uint32_t page = 0x8000; page + PAGE <= LOW_END; page += PAGE) {
        struct thing here = {"", page, PAGE};
        bool is_free = memmap_count == 0 || is_mapped_as(page, PAGE, MEMMAP_TYPE_RAM);
        is_free = is_free && !overlap(here, (struct thing){"", at_entry.ebx, 56});
        is_free = is_free && !overlap(here, (struct thing){"", start.memmap, memmap_count * MEMMAP_BYTES});
        is_free = is_free && !overlap(here, (struct thing){"", start.modules, module_count * MODULE_BYTES});
        is_free = is_free && !overlap(here, (struct thing){"", start.cmdline, start.cmdline == 0 ? 0 : PAGE});
        is_free = is_free && !overlap(here, (struct thing){"", start.rsdp, 36});
        for (uint32_t i = 0; i < module_count; i++)
            is_free = is_free && !overlap(here, (struct thing){"", module_entry(i).at, module_entry(i).size});
        if (is_free)
            return page;
    }
    return 0;
}

static void send(uint32_t id, uint32_t command)
{
    volatile uint32_t *high = (volatile uint32_t *)(LAPIC + LAPIC_ICR_HIGH), *low = (volatile uint32_t *)(LAPIC + LAPIC_ICR);
    *high = id << 24;
    *low = command;
    for (uint32_t wait = 0; wait < INIT_WAITS && *low & ICR_PENDING; wait++)
        in8(NOTHING);
}

/* A second at least where the counter runs at 4 GHz, and longer elsewhere. */
static const uint64_t wait_ticks = 4000000000;

static uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void wait_for_start(uint32_t before)
{
    uint64_t begin = ticks();
    for (uint32_t wait = 0; started.starts == before && wait < MOST_WAITS; wait++) {
        if (wait >= WAITS && ticks() - begin >= wait_ticks)
            return;
        in8(NOTHING);
    }
}

static void check_one(uint32_t index, uint32_t id, uint32_t page)
{
    uint32_t before = started.starts;
    send(id, ICR_INIT);
    for (uint32_t wait = 0; wait < INIT_WAITS; wait++)
        in8(NOTHING);
    send(id, ICR_SIPI | page / PAGE);
    wait_for_start(before);
    if (started.starts == before) {
        send(id, ICR_SIPI | page / PAGE);
        wait_for_start(before);
    }
    clause("pvh.pandoc: secondary processors start through the local APIC");
    equal(named("processor", index, " starts once by INIT and SIPI"), 1, started.starts - before);
    if (started.starts == before)
        return;
    equal(named("processor", index, " begins at the page of the SIPI"), page / 16, started.cs);
    bits_clear(named("processor", index, " begins in real mode"), started.cr0, 0x80000001);
    bits_clear(named("processor", index, " is not the boot processor"), started.apic_base, 1 << 8);
    bits_set(named("processor", index, " has its local APIC enabled"), started.apic_base, 1 << 11);
    clause("ACPI 5.2.12.2: MADT ids are those of the local APICs");
    equal(named("processor", index, " has the MADT's id in its local APIC"), id, started.lapic_id);
    equal(named("processor", index, " has the MADT's id in CPUID"), id, started.cpuid_id);
    equal(named("processor", index, " has a local APIC of the same version"), captured.lapic[LAPIC_VERSION / 16],
          started.version);
    clause("pvh.pandoc: initial MTRR state");
    if (captured.has_mtrrs)
        equal(named("processor", index, " has the boot processor's memory types"), captured.mtrr_def_type,
              started.mtrr_def_type);
    else
        skip(named("processor", index, " has the boot processor's memory types"), "the CPU has none");
}

void check_processors(void)
{
    static uint8_t kept[PAGE];
    group("processors");
    if (madt != 0)
        each_madt_entry(visit);
    note("secondary processors");
    print_number(listed);
    print("\n");
    if (count == 0 || !captured.has_lapic) {
        clause("pvh.pandoc: secondary processors start through the local APIC");
        skip("processor 1 starts once by INIT and SIPI", "the MADT lists no other");
        return;
    }
    uint32_t page = free_page();
    if (page == 0) {
        clause("pvh.pandoc: secondary processors start through the local APIC");
        skip("processor 1 starts once by INIT and SIPI", "no page below 640 KiB is free");
        return;
    }
    *(volatile uint32_t *)(LAPIC + LAPIC_SVR) = 0x1ff; /* on: some local APICs send nothing before */
    memcpy(kept, (void *)page, PAGE);
    memcpy((void *)page, ap_start, (uint32_t)(ap_end - ap_start));
    for (uint32_t i = 0; i < count; i++)
        check_one(i + 1, to_start[i], page);
    memcpy((void *)page, kept, PAGE);
}
