/* The start-of-day structure: its fields, where they point, and that nothing lies over anything else. */
#include "plain.h"

enum { GIB = 1 << 30, RSDP_BYTES = 36, VERSION_1_BYTES = 56 };

enum { IMAGE, INFO, CMDLINE, LIST, MAP, RSDP, THINGS };

static struct thing things[THINGS];

static void find_things(void)
{
    uint32_t image = (uint32_t)image_start;
    things[IMAGE] = (struct thing){"the image", image, (uint32_t)image_end - image};
    things[INFO] = (struct thing){"the structure", at_entry.ebx, start.has_memmap ? VERSION_1_BYTES : START_INFO_BYTES};
    things[CMDLINE] = (struct thing){"the command line", start.cmdline, 0};
    if (reachable(start.cmdline, 1))
        things[CMDLINE].bytes = text_bytes((uint32_t)start.cmdline) + 1u;
    things[LIST] = (struct thing){"the list of modules", start.modules, module_count * MODULE_BYTES};
    things[MAP] = (struct thing){"the memory map", start.memmap, memmap_count * MEMMAP_BYTES};
    things[RSDP] = (struct thing){"the RSDP", start.rsdp, reachable(start.rsdp, RSDP_BYTES) ? RSDP_BYTES : 0};
}

static void check_fields(void)
{
    clause("start_info.h: magic and version");
    equal("the magic number is 0x336ec578", START_MAGIC, read32(at_entry.ebx));
    holds("the version is 0 or 1", start.version <= 1, "0 or 1", start.version);
    clause("xen.h: SIF_* flags");
    bits_clear("flags: not privileged", start.flags, 1 << 0);
    bits_clear("flags: not the initial domain", start.flags, 1 << 1);
    bits_clear("flags: no multiboot modules", start.flags, 1 << 2);
    bits_clear("flags: no start of modules as a frame", start.flags, 1 << 3);
    bits_clear("flags: no virtual P2M list", start.flags, 1 << 4);
    bits_clear("flags: no power management for a control domain", start.flags, 0xff00);
    bits_clear("flags: reserved bits are clear", start.flags, 0xffff00e0);
    clause("start_info.h: reserved field");
    if (start.has_memmap)
        equal("the reserved field is 0", 0, start.reserved);
    else
        skip("the reserved field is 0", "version 0 has none");
}

static void check_pairs(void)
{
    clause("start_info.h: address 0 means absent");
    holds("the list of modules is there if and only if there are modules",
          (start.module_count != 0) == (start.modules != 0), "both 0, or neither", start.modules);
    if (!start.has_memmap)
        skip("the memory map is there if and only if it has entries", "version 0 has none");
    else
        holds("the memory map is there if and only if it has entries",
              (start.memmap_count != 0) == (start.memmap != 0), "both 0, or neither", start.memmap);
    clause("guests: how much they read");
    holds("the memory map has at most 128 entries", start.memmap_count <= 128, "0 to 128", start.memmap_count);
    holds("there are fewer than 8 modules", start.module_count < 8, "0 to 7", start.module_count);
}

static bool is_writable(uint32_t at)
{
    volatile uint8_t *byte = (volatile uint8_t *)at;
    uint8_t kept = *byte;
    *byte = (uint8_t)~kept;
    bool written = *byte != kept;
    *byte = kept;
    return written && *byte == kept;
}

struct names {
    const char *below_4_gib, *in_map, *below_1_gib, *writable;
};

static const struct names place_names[THINGS] = {
    [INFO] = {"the structure is below 4 GiB", "the structure is in RAM", "the structure is below 1 GiB",
              "the structure is writable"},
    [CMDLINE] = {"the command line is below 4 GiB", "the command line is in RAM", "the command line is below 1 GiB",
                 "the command line is writable"},
    [LIST] = {"the list of modules is below 4 GiB", "the list of modules is in RAM",
              "the list of modules is below 1 GiB", "the list of modules is writable"},
    [MAP] = {"the memory map is below 4 GiB", "the memory map is in RAM", "the memory map is below 1 GiB",
             "the memory map is writable"},
};

static void check_place(struct thing thing, struct names names)
{
    if (thing.at == 0) {
        skip(names.below_4_gib, "it is absent");
        skip(names.in_map, "it is absent");
        skip(names.below_1_gib, "it is absent");
        skip(names.writable, "it is absent");
        return;
    }
    bool is_reachable = reachable(thing.at, thing.bytes == 0 ? 1 : thing.bytes);
    holds(names.below_4_gib, is_reachable, "below 4 GiB", thing.at);
    if (memmap_count == 0)
        skip(names.in_map, "there is no memory map");
    else
        holds(names.in_map, is_mapped_as(thing.at, thing.bytes, MEMMAP_TYPE_RAM), "an entry of type RAM", thing.at);
    holds(names.below_1_gib, thing.at < GIB && thing.bytes <= GIB - thing.at, "below 1 GiB", thing.at);
    holds(names.writable, is_reachable && is_writable((uint32_t)thing.at), "RAM", thing.at);
}

static void check_places(void)
{
    clause("start_info.h, guests: everything lies in RAM, below 4 GiB; Linux reads it below 1 GiB and writes the structure");
    for (uint32_t i = INFO; i <= MAP; i++)
        check_place(things[i], place_names[i]);
    clause("start_info.h: the command line is a text");
    if (things[CMDLINE].bytes == 0)
        skip("a NUL ends the command line", "it is absent");
    else
        holds("a NUL ends the command line", things[CMDLINE].bytes <= CMDLINE_LIMIT, "within 64 KiB",
              things[CMDLINE].bytes);
    clause("Xen: alignment of its tables");
    bits_clear("the structure is aligned to 4 bytes", at_entry.ebx, 3);
    bits_clear("the list of modules is aligned to 8 bytes", start.modules, 7);
    bits_clear("the memory map is aligned to 8 bytes", start.memmap, 7);
}

static void check_overlaps(void)
{
    static const char *const names[THINGS][THINGS] = {
        [IMAGE] = {0, "image and structure", "image and command line", "image and list of modules",
                   "image and memory map", "image and RSDP"},
        [INFO] = {0, 0, "structure and command line", "structure and list of modules", "structure and memory map",
                  "structure and RSDP"},
        [CMDLINE] = {0, 0, 0, "command line and list of modules", "command line and memory map", "command line and RSDP"},
        [LIST] = {0, 0, 0, 0, "list of modules and memory map", "list of modules and RSDP"},
        [MAP] = {0, 0, 0, 0, 0, "memory map and RSDP"},
    };
    clause("start_info.h, Xen: nothing overlaps");
    for (uint32_t a = 0; a < THINGS; a++)
        for (uint32_t b = a + 1; b < THINGS; b++) {
            if (things[a].bytes == 0 || things[b].bytes == 0)
                skip(names[a][b], "one of them is absent");
            else
                holds(names[a][b], !overlap(things[a], things[b]), "apart", things[b].at);
        }
}

void check_start_info(void)
{
    group("start-info");
    if (!has_start) {
        clause("start_info.h: magic and version");
        holds("the magic number is 0x336ec578", false, "0x336ec578 where ebx points", at_entry.ebx);
        return;
    }
    find_things();
    check_fields();
    check_pairs();
    check_places();
    check_overlaps();
}
