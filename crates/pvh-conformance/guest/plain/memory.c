/* The memory map: its entries, and that the memory which it calls RAM is there. */
#include "plain.h"

enum {
    PAGE = 4096,
    LOW_PAGE = 0x1000,
    IO_APIC = 0xfec00000,
    TYPE_LAST = 7, /* PMEM */
    RANGES_LIMIT = 16,
};

/* Results over all entries; the address of the first bad one. */
struct verdict {
    bool good;
    uint64_t at;
};

static void fail(struct verdict *verdict, uint64_t at)
{
    if (verdict->good)
        *verdict = (struct verdict){false, at};
}

static void report(const char *name, struct verdict verdict, const char *wanted)
{
    holds(name, verdict.good, wanted, verdict.at);
}

static void check_entries(void)
{
    struct verdict types = {true, 0}, reserved = types, sizes = types, ends = types, pages = types;
    uint32_t ram = 0;
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        if (entry.type == 0 || entry.type > TYPE_LAST)
            fail(&types, entry.type);
        if (entry.reserved != 0)
            fail(&reserved, entry.reserved);
        if (entry.size == 0)
            fail(&sizes, entry.at);
        if (entry.at + entry.size < entry.at)
            fail(&ends, entry.at);
        if (entry.type != MEMMAP_TYPE_RAM)
            continue;
        ram++;
        if (entry.at >= 0x100000 && ((entry.at | entry.size) & (PAGE - 1)) != 0)
            fail(&pages, entry.at);
    }
    clause("start_info.h: memory map, entries");
    report("every type is one of the header", types, "1 to 7");
    report("every reserved field is 0", reserved, "0");
    report("no entry is empty", sizes, "a size");
    report("no entry wraps past 2^64", ends, "an end");
    holds("there is RAM", ram > 0, "an entry of type RAM", ram);
    clause("guests: RAM from 1 MiB on is whole pages");
    report("its RAM begins and ends at pages", pages, "multiples of 4096");
}

static void check_no_overlap(void)
{
    struct verdict verdict = {true, 0};
    for (uint32_t i = 0; i < memmap_count; i++)
        for (uint32_t j = i + 1; j < memmap_count; j++) {
            struct memmap_entry a = memmap_entry(i), b = memmap_entry(j);
            if (overlap((struct thing){"", a.at, a.size}, (struct thing){"", b.at, b.size}))
                fail(&verdict, b.at);
        }
    clause("start_info.h: memory map, no overlap");
    report("no two entries overlap", verdict, "apart");
}

static void check_known_places(void)
{
    uint32_t image = (uint32_t)image_start, bytes = (uint32_t)image_end - image;
    clause("start_info.h: memory map, what has to be RAM and what not");
    holds("the image lies in RAM", is_mapped_as(image, bytes, MEMMAP_TYPE_RAM), "an entry of type RAM", image);
    holds("the local APIC does not lie in RAM", !touches(LAPIC, PAGE, MEMMAP_TYPE_RAM), "not RAM", LAPIC);
    holds("the I/O APIC does not lie in RAM", !touches(IO_APIC, PAGE, MEMMAP_TYPE_RAM), "not RAM", IO_APIC);
    clause("guests: low RAM for the start of secondary processors");
    holds("the page at 0x1000 is RAM", is_mapped_as(LOW_PAGE, PAGE, MEMMAP_TYPE_RAM), "an entry of type RAM", LOW_PAGE);
}

/* First and last words of the ranges of RAM below 4 GiB that nothing of this guest lies in. */
static uint32_t words[2 * RANGES_LIMIT], kept[2 * RANGES_LIMIT], word_count;

static void find_words(void)
{
    for (uint32_t i = 0; i < memmap_count && word_count < 2 * RANGES_LIMIT; i++) {
        struct memmap_entry entry = memmap_entry(i);
        if (entry.type != MEMMAP_TYPE_RAM || entry.size < 8 || !reachable(entry.at + 4, entry.size - 4))
            continue;
        words[word_count++] = entry.at == 0 ? 4 : (uint32_t)entry.at;
        words[word_count++] = (uint32_t)(entry.at + entry.size - 4);
    }
}

static void put32(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)at = value;
}

static void check_contents(void)
{
    struct verdict holds_value = {true, 0};
    find_words();
    for (uint32_t i = 0; i < word_count; i++) {
        kept[i] = read32(words[i]);
        put32(words[i], 0x4a110000 + i);
    }
    for (uint32_t i = 0; i < word_count; i++)
        if (read32(words[i]) != 0x4a110000 + i)
            fail(&holds_value, words[i]);
    for (uint32_t i = word_count; i-- > 0;)
        put32(words[i], kept[i]);
    clause("start_info.h: memory map, RAM is memory");
    report("the ends of every range of RAM below 4 GiB keep what is written, each for itself", holds_value, "what was written");
    static uint32_t ours;
    uint32_t other = (uint32_t)&ours ^ 0x100000;
    clause("guests: A20 is open");
    if (!is_mapped_as(other, 4, MEMMAP_TYPE_RAM)) {
        skip("memory 1 MiB apart is not the same", "no RAM is known there");
        return;
    }
    uint32_t kept_other = read32(other);
    ours = ~kept_other;
    holds("memory 1 MiB apart is not the same", read32(other) == kept_other, "unchanged", read32(other));
}

void check_memory(void)
{
    group("memory-map");
    if (!has_start || !start.has_memmap) {
        clause("start_info.h: memory map, entries");
        skip("there is RAM", "there is no memory map");
        return;
    }
    if (memmap_count == 0) {
        clause("start_info.h: memory map, entries");
        holds("there is RAM", false, "an entry of type RAM", start.memmap_count);
        return;
    }
    check_entries();
    check_no_overlap();
    check_known_places();
    check_contents();
}
