/* The start info and the memory map, read with care: any field of them may be wrong. */
#include "plain.h"

struct start_info start;
bool has_start;
uint32_t memmap_count, module_count;

bool reachable(uint64_t at, uint64_t bytes)
{
    return at != 0 && at < 0x100000000 && bytes <= 0x100000000 - at;
}

struct memmap_entry memmap_entry(uint32_t index)
{
    return read_memmap_entry((uint32_t)start.memmap + index * MEMMAP_BYTES);
}

struct module module_entry(uint32_t index)
{
    return read_module((uint32_t)start.modules + index * MODULE_BYTES);
}

bool is_mapped_as(uint64_t at, uint64_t bytes, uint32_t type)
{
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        if ((type == ANY_TYPE || entry.type == type) && at >= entry.at && at - entry.at <= entry.size &&
            bytes <= entry.size - (at - entry.at))
            return true;
    }
    return false;
}

bool overlap(struct thing a, struct thing b)
{
    if (a.bytes == 0 || b.bytes == 0)
        return false;
    return a.at < b.at ? b.at - a.at < a.bytes : a.at - b.at < b.bytes;
}

bool touches(uint64_t at, uint64_t bytes, uint32_t type)
{
    struct thing thing = {"", at, bytes};
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        struct thing range = {"", entry.at, entry.size};
        if (entry.type == type && overlap(thing, range))
            return true;
    }
    return false;
}

uint32_t text_bytes(uint32_t at)
{
    uint32_t bytes = 0;
    while (bytes < CMDLINE_LIMIT && at + bytes >= at && read8(at + bytes) != 0)
        bytes++;
    return bytes;
}

uint32_t value_of(uint64_t text, const char *key)
{
    if (!reachable(text, 1))
        return 0;
    uint32_t at = (uint32_t)text, bytes = text_bytes(at);
    bool begins = true;
    for (uint32_t i = 0; i < bytes; i++) {
        uint32_t matched = 0;
        while (begins && key[matched] != 0 && read8(at + i + matched) == (uint8_t)key[matched])
            matched++;
        if (begins && key[matched] == 0)
            return at + i + matched;
        begins = read8(at + i) == ' ';
    }
    return 0;
}

void read_machine(void)
{
    has_start = reachable(at_entry.ebx, START_INFO_BYTES) && read32(at_entry.ebx) == START_MAGIC;
    if (!has_start)
        return;
    start = read_start_info(at_entry.ebx);
    uint32_t count = start.memmap_count < MEMMAP_LIMIT ? start.memmap_count : MEMMAP_LIMIT;
    if (start.has_memmap && reachable(start.memmap, count * MEMMAP_BYTES))
        memmap_count = count;
    count = start.module_count < MODULES_LIMIT ? start.module_count : MODULES_LIMIT;
    if (reachable(start.modules, count * MODULE_BYTES))
        module_count = count;
}
