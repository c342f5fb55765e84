/* Saves what the machine gave before the guest changes it. It runs on the machine's own segments, so it takes the
   address of no local variable: if SS is not flat, the stack lies elsewhere than DS finds it. */
#include "plain.h"

enum {
    FAR = (256 << 20) + 1, /* a limit without its granularity bit, or a truncated one, ends below this address */
    MARK = 0x5e600000,
    RETURN = 0xc3,
    CPUID_APIC = 1 << 9,
    CPUID_MTRR = 1 << 12,
    CPUID_PAT = 1 << 16,
    CPUID_LONG_MODE = 1 << 29,
    MTRR_FIXED_IN_CAP = 1 << 8,
};

struct captured captured;
uint8_t push_area[0x10000] __attribute__((aligned(4)));

#define READ_BY(segment, at, value) PROBE("movl %%" segment ":(%1), %0", "=&r"(value), "r"(at))
#define WRITE_BY(segment, at, value)                                                            \
    do {                                                                                        \
        probe_fault = NO_FAULT;                                                                 \
        __asm__ volatile("movl $1f, probe_resume\n\tmovl %%esp, probe_esp\n\t"                  \
                         "movl %0, %%" segment ":(%1)\n1:\tmovl $0, probe_resume"               \
                         : : "r"(value), "r"(at) : "memory", "cc");                             \
    } while (0)

/* A fault loads CS from this image's own table: nothing of the machine's CS can be seen from then on. */
static bool is_cs_replaced;

/* Keeps the result of the last PROBE; what was bad once stays bad. */
static void saw(uint32_t place, uint32_t probe, bool good)
{
    uint8_t *seen = &captured.saw[place][probe];
    bool is_of_cs = probe == CS_READ || probe == CS_EXECUTE;
    if (is_of_cs && is_cs_replaced)
        *seen = UNKNOWABLE;
    else if (probe_fault != NO_FAULT)
        *seen = FAULTED;
    else if (*seen == ABSENT_PLACE || *seen == GOOD)
        *seen = good ? GOOD : OTHER_MEMORY;
    if (probe_fault != NO_FAULT)
        is_cs_replaced = true;
}

/* Reads by CS what DS has written, and runs an instruction there. */
static void probe_cs(uint32_t place, uint32_t at)
{
    uint32_t kept, value;
    captured.place[place] = at;
    READ_BY("ds", at, kept);
    saw(place, DS_READ, true);
    if (probe_fault != NO_FAULT)
        return;
    WRITE_BY("ds", at, MARK + RETURN);
    saw(place, DS_WRITE, true);
    READ_BY("cs", at, value);
    saw(place, CS_READ, value == MARK + RETURN);
    if (captured.saw[place][CS_READ] == GOOD) {
        PROBE("call *%0", , "r"(at));
        saw(place, CS_EXECUTE, true);
    }
    WRITE_BY("ds", at, kept);
}

/* What DS writes, each other segment reads; what each other one writes, DS reads. Each puts back what it found, for
   a segment that is not flat writes elsewhere. */
static void probe_data(uint32_t place, uint32_t at)
{
    uint32_t kept, kept_ss, kept_es, value;
    READ_BY("ds", at, kept);
    if (probe_fault != NO_FAULT)
        return;
    READ_BY("ss", at, kept_ss);
    READ_BY("es", at, kept_es);
    WRITE_BY("ds", at, MARK + 1);
    READ_BY("ds", at, value);
    saw(place, DS_READ, value == MARK + 1);
    READ_BY("ss", at, value);
    saw(place, SS_READ, value == MARK + 1);
    READ_BY("es", at, value);
    saw(place, ES_READ, value == MARK + 1);
    WRITE_BY("ss", at, MARK + 2);
    saw(place, SS_WRITE, read32(at) == MARK + 2);
    WRITE_BY("ss", at, kept_ss);
    WRITE_BY("es", at, MARK + 3);
    saw(place, ES_WRITE, read32(at) == MARK + 3);
    WRITE_BY("es", at, kept_es);
    WRITE_BY("ds", at, MARK + 4);
    saw(place, DS_WRITE, read32(at) == MARK + 4);
    WRITE_BY("ds", at, kept);
}

/* A register that is neither 0 nor all ones, read by each segment. */
static void probe_lapic(void)
{
    uint32_t at = LAPIC + LAPIC_VERSION, first, value;
    captured.place[LAPIC_PAGE] = at;
    READ_BY("ds", at, first);
    saw(LAPIC_PAGE, DS_READ, first != 0xffffffff && first != 0);
    if (probe_fault != NO_FAULT)
        return;
    READ_BY("cs", at, value);
    saw(LAPIC_PAGE, CS_READ, value == first);
    READ_BY("ss", at, value);
    saw(LAPIC_PAGE, SS_READ, value == first);
    READ_BY("es", at, value);
    saw(LAPIC_PAGE, ES_READ, value == first);
}

/* The number of entries of the map that is plausible enough to be read; nothing has been checked yet. */
static uint32_t early_entries(void)
{
    uint32_t info = at_entry.ebx;
    if (info == 0 || info > 0xfffff000 || read32(info) != START_MAGIC || read32(info + 4) == 0)
        return 0;
    uint64_t map = read64(info + 40);
    uint32_t count = read32(info + 48);
    return map == 0 || map > 0xf0000000 || count > MEMMAP_LIMIT ? 0 : count;
}

static bool early_ram(uint32_t entries, uint32_t at)
{
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t entry = (uint32_t)read64(at_entry.ebx + 40) + i * MEMMAP_BYTES;
        uint64_t start = read64(entry), bytes = read64(entry + 8);
        if (read32(entry + 16) == MEMMAP_TYPE_RAM && at >= start && bytes >= 4 && at - start <= bytes - 4)
            return true;
    }
    return false;
}

/* The last four bytes of RAM below 4 GiB. */
static uint32_t early_last_ram(uint32_t entries)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t entry = (uint32_t)read64(at_entry.ebx + 40) + i * MEMMAP_BYTES;
        uint64_t end = read64(entry) + read64(entry + 8);
        if (end > 0x100000000)
            end = 0x100000000;
        if (end >= 4 && end - 4 > last && early_ram(entries, (uint32_t)(end - 4)))
            last = (uint32_t)(end - 4);
    }
    return last;
}

static void capture_segments(void)
{
    static uint32_t here, entries;
    entries = early_entries();
    uint32_t last = early_last_ram(entries);
    bool has_far = early_ram(entries, FAR);
    captured.pushed_esp = push_at(PUSH_TOP);
    probe_cs(IN_IMAGE, (uint32_t)&here);
    if (has_far)
        probe_cs(FAR_RAM, FAR);
    if (last != 0)
        probe_cs(LAST_RAM, last);
    probe_data(IN_IMAGE, (uint32_t)&here);
    if (has_far)
        probe_data(FAR_RAM, FAR);
    if (last != 0)
        probe_data(LAST_RAM, last);
    if (captured.has_lapic)
        probe_lapic();
}

#define READ_DR(number) __asm__ volatile("movl %%dr" #number ", %0" : "=r"(captured.dr[number]))

static void capture_debug_registers(void)
{
    READ_DR(0);
    READ_DR(1);
    READ_DR(2);
    READ_DR(3);
    READ_DR(6);
    READ_DR(7);
}

static const uint16_t fixed_mtrrs[MTRR_FIXED] = {
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
};

static void capture_mtrrs(void)
{
    captured.mtrr_cap = read_msr(MSR_MTRR_CAP);
    captured.mtrr_def_type = read_msr(MSR_MTRR_DEF_TYPE);
    captured.mtrr_variables = captured.mtrr_cap & 0xff;
    if (captured.mtrr_variables > MTRR_VARIABLE_LIMIT)
        captured.mtrr_variables = MTRR_VARIABLE_LIMIT;
    for (uint32_t i = 0; i < captured.mtrr_variables; i++) {
        captured.mtrr_base[i] = read_msr(0x200 + 2 * i);
        captured.mtrr_mask[i] = read_msr(0x201 + 2 * i);
    }
    if (captured.mtrr_cap & MTRR_FIXED_IN_CAP)
        for (uint32_t i = 0; i < MTRR_FIXED; i++)
            captured.mtrr_fixed[i] = read_msr(fixed_mtrrs[i]);
}

static uint32_t cpuid_edx(uint32_t leaf)
{
    uint32_t value, sub = 0;
    __asm__ volatile("cpuid" : "+a"(leaf), "=d"(value), "+c"(sub) : : "ebx");
    return value;
}

static uint32_t cpuid_eax(uint32_t leaf)
{
    uint32_t sub = 0;
    __asm__ volatile("cpuid" : "+a"(leaf), "+c"(sub) : : "ebx", "edx");
    return leaf;
}

/* Asks CPUID before each register, so that a CPU without it causes no fault. */
static void capture_msrs(void)
{
    uint32_t features = cpuid_edx(1);
    captured.has_lapic = features & CPUID_APIC;
    captured.has_mtrrs = features & CPUID_MTRR;
    captured.has_pat = features & CPUID_PAT;
    captured.has_long_mode = cpuid_eax(0x80000000) > 0x80000000 && cpuid_edx(0x80000001) & CPUID_LONG_MODE;
    if (captured.has_long_mode)
        captured.efer = read_msr(MSR_EFER);
    if (captured.has_pat)
        captured.pat = read_msr(MSR_PAT);
    if (captured.has_mtrrs)
        capture_mtrrs();
    if (captured.has_lapic)
        captured.apic_base = read_msr(MSR_APIC_BASE);
}

/* Runs on the image's own segments, because the machine's may not reach the local APIC. Reading changes none of these
   registers; the reserved ones are left out. */
void capture_lapic(void)
{
    if (!captured.has_lapic)
        return;
    for (uint32_t i = 2; i < LAPIC_REGISTERS; i++) {
        if (i == 4 || i == 5 || i == 6 || i == 7 || i == 9 || i == 0xb || i == 0xc || (i > 0x28 && i < 0x2f) || i == 0x3f)
            continue;
        captured.lapic[i] = *(volatile uint32_t *)(LAPIC + i * 16);
    }
}

void capture(void);

/* Called by entry.S. */
void capture(void)
{
    capture_debug_registers();
    capture_msrs();
    capture_segments();
}
