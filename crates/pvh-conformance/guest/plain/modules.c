/* The modules: where they lie, and that every byte of them arrived. */
#include "plain.h"

enum { HASH_LIMIT = 32 << 20 };

static int digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    return -1;
}

static bool is_hash(uint32_t text, const uint8_t digest[32])
{
    for (uint32_t i = 0; i < 64; i++)
        if (digit(read8(text + i)) != (digest[i / 2] >> (i % 2 ? 0 : 4) & 0xf))
            return false;
    return true;
}

/* `sha256=` in the module's command line, or `module0.sha256=` in the guest's, for a VMM that gives modules none. */
static uint32_t expected(uint32_t index, struct module module)
{
    static char key[] = "module0.sha256=";
    uint32_t text = value_of(module.cmdline, "sha256=");
    key[6] = (char)('0' + index % 10);
    return text != 0 || index > 9 ? text : value_of(start.cmdline, key);
}

static void check_content(uint32_t index, struct module module)
{
    const char *name = named("module", index, ": its bytes have the hash of its command line");
    uint32_t text = expected(index, module);
    if (text == 0) {
        skip(name, "no command line has its sha256=");
        return;
    }
    if (!reachable(module.at, module.size) || module.size > HASH_LIMIT) {
        skip(name, "it is out of reach, or above 32 MiB");
        return;
    }
    uint8_t digest[32];
    sha256((uint32_t)module.at, (uint32_t)module.size, digest);
    holds(name, is_hash(text, digest), "the hash of its command line",
          (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 | (uint32_t)digest[2] << 8 | digest[3]);
}

static void check_one(uint32_t index)
{
    struct module module = module_entry(index);
    struct thing thing = {"", module.at, module.size};
    uint32_t image = (uint32_t)image_start;
    note("module");
    print_hex(module.at, 16);
    print(" size ");
    print_hex(module.size, 16);
    print("\n");
    clause("start_info.h: modules");
    holds(named("module", index, ": it has an address and a size"), module.at != 0 && module.size != 0, "neither 0",
          module.at);
    holds(named("module", index, ": it is below 4 GiB"), reachable(module.at, module.size), "below 4 GiB", module.at);
    equal(named("module", index, ": its reserved field is 0"), 0, module.reserved);
    if (memmap_count == 0)
        skip(named("module", index, ": it is in RAM"), "there is no memory map");
    else
        holds(named("module", index, ": it is in RAM"), is_mapped_as(module.at, module.size, MEMMAP_TYPE_RAM),
              "an entry of type RAM", module.at);
    holds(named("module", index, ": it does not lie over the image"),
          !overlap(thing, (struct thing){"", image, (uint32_t)image_end - image}), "apart", module.at);
    holds(named("module", index, ": it does not lie over the structure"),
          !overlap(thing, (struct thing){"", at_entry.ebx, 56}), "apart", module.at);
    bool is_apart = true;
    for (uint32_t other = 0; other < module_count; other++) {
        struct module next = module_entry(other);
        is_apart = is_apart && (other == index || !overlap(thing, (struct thing){"", next.at, next.size}));
    }
    holds(named("module", index, ": it does not lie over another"), is_apart, "apart", module.at);
    holds(named("module", index, ": its command line is in reach"),
          module.cmdline == 0 || reachable(module.cmdline, 1), "0, or below 4 GiB", module.cmdline);
    clause("Xen: modules begin at a page");
    bits_clear(named("module", index, ": it begins at a page"), module.at, 0xfff);
    clause("start_info.h: modules, their bytes are the file's");
    check_content(index, module);
}

void check_modules(void)
{
    group("modules");
    if (module_count == 0) {
        clause("start_info.h: modules");
        skip("module 0: it is in RAM", has_start && start.module_count == 0 ? "there is no module" : "they are out of reach");
    }
    for (uint32_t i = 0; i < module_count; i++)
        check_one(i);
}
