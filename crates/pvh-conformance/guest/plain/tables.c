/* The ACPI tables: that each is whole, and what the FADT says of the machine. */
#include "plain.h"

enum {
    HEADER = 36,
    TABLES_LIMIT = 32,
    TABLE_BYTES_LIMIT = 1 << 20,
    MADT_ENTRIES = 44,
    HARDWARE_REDUCED = 1 << 20,
};

uint32_t fadt, madt;
static uint32_t rsdp, dsdt;

static bool is_text(uint32_t at, const char *text)
{
    for (; *text != 0; text++, at++)
        if (read8(at) != (uint8_t)*text)
            return false;
    return true;
}

static uint8_t sum(uint32_t at, uint32_t bytes)
{
    uint8_t total = 0;
    while (bytes-- > 0)
        total = (uint8_t)(total + read8(at++));
    return total;
}

static bool is_free_ram(uint64_t at, uint64_t bytes)
{
    return touches(at, bytes, MEMMAP_TYPE_RAM);
}

static void check_rsdp(void)
{
    clause("start_info.h: rsdp_paddr; ACPI 5.2.5.3: RSDP");
    if (start.rsdp == 0) {
        skip("the RSDP has its signature", "the start info names none");
        return;
    }
    if (!reachable(start.rsdp, 36)) {
        holds("the RSDP has its signature", false, "an address below 4 GiB", start.rsdp);
        return;
    }
    uint32_t at = (uint32_t)start.rsdp;
    bool is_there = is_text(at, "RSD PTR ");
    holds("the RSDP has its signature", is_there, "RSD PTR ", read32(at));
    if (!is_there)
        return;
    rsdp = at;
    bits_clear("the RSDP is aligned to 16 bytes", at, 15);
    equal("the RSDP's checksum over 20 bytes is 0", 0, sum(at, 20));
    uint8_t revision = read8(at + 15);
    holds("the RSDP's revision is 0 or 2", revision == 0 || revision == 2, "0 or 2", revision);
    if (revision < 2) {
        skip("the RSDP's length is 36", "revision 0 has none");
        skip("the RSDP's checksum over 36 bytes is 0", "revision 0 has none");
        skip("the RSDP's reserved bytes are 0", "revision 0 has none");
    } else {
        equal("the RSDP's length is 36", 36, read32(at + 20));
        equal("the RSDP's checksum over 36 bytes is 0", 0, sum(at, 36));
        equal("the RSDP's reserved bytes are 0", 0, read32(at + 32) >> 8);
    }
    clause("ACPI 15: tables do not lie in free RAM");
    if (memmap_count == 0)
        skip("the RSDP does not lie in free RAM", "there is no memory map");
    else
        holds("the RSDP does not lie in free RAM", !is_free_ram(at, 36), "not an entry of type RAM", at);
}

/* A name that has the table's signature: "FACP: <what>"; valid until the next call. */
static const char *table_name(uint32_t table, const char *what)
{
    static char name[64];
    unsigned at = 0;
    for (; at < 4; at++) {
        char byte = (char)read8(table + at);
        name[at] = byte >= '0' && byte <= 'z' ? byte : '?';
    }
    name[at++] = ':';
    name[at++] = ' ';
    while (*what != 0 && at < sizeof name - 1)
        name[at++] = *what++;
    name[at] = 0;
    return name;
}

/* Checks a table's header and checksum; returns whether it can be read. */
static bool check_table(uint32_t table)
{
    uint32_t length = read32(table + 4);
    bool is_whole = length >= HEADER && length <= TABLE_BYTES_LIMIT && reachable(table, length);
    clause("ACPI 5.2.6: a table's header and checksum");
    holds(table_name(table, "its length holds its header"), is_whole, "36 bytes to 1 MiB", length);
    if (!is_whole)
        return false;
    equal(table_name(table, "its checksum is 0"), 0, sum(table, length));
    clause("ACPI 15: tables do not lie in free RAM");
    if (memmap_count == 0)
        skip(table_name(table, "it does not lie in free RAM"), "there is no memory map");
    else
        holds(table_name(table, "it does not lie in free RAM"), !is_free_ram(table, length), "not an entry of type RAM",
              table);
    return true;
}

static void check_root(uint32_t root, uint32_t entry_bytes, const char *signature)
{
    clause("ACPI 5.2.7, 5.2.8: RSDT, XSDT");
    bool is_there = is_text(root, signature);
    holds(entry_bytes == 8 ? "the XSDT has its signature" : "the RSDT has its signature", is_there, signature,
          read32(root));
    if (!is_there || !check_table(root))
        return;
    uint32_t length = read32(root + 4);
    clause("ACPI 5.2.7, 5.2.8: RSDT, XSDT");
    equal(table_name(root, "its entries fill it"), 0, (length - HEADER) % entry_bytes);
    holds(table_name(root, "it has entries"), length > HEADER, "tables", length);
    for (uint32_t i = 0; i < TABLES_LIMIT && HEADER + (i + 1) * entry_bytes <= length; i++) {
        uint32_t at = root + HEADER + i * entry_bytes;
        uint64_t table = entry_bytes == 8 ? read64(at) : read32(at);
        bool is_reachable = reachable(table, HEADER);
        holds(named("root table: entry", i, " is in reach"), is_reachable, "below 4 GiB", table);
        if (!is_reachable)
            continue;
        bool is_whole = check_table((uint32_t)table);
        clause("ACPI 5.2.7, 5.2.8: RSDT, XSDT");
        if (is_whole && is_text((uint32_t)table, "FACP") && read32((uint32_t)table + 4) >= 116)
            fadt = (uint32_t)table;
        if (is_whole && is_text((uint32_t)table, "APIC") && read32((uint32_t)table + 4) >= MADT_ENTRIES)
            madt = (uint32_t)table;
    }
}

static uint64_t fadt_field(uint32_t at, uint32_t bytes)
{
    if (read32(fadt + 4) < at + bytes)
        return 0;
    return bytes == 8 ? read64(fadt + at) : bytes == 4 ? read32(fadt + at) : bytes == 2 ? read16(fadt + at) : read8(fadt + at);
}

static void check_dsdt(void)
{
    uint64_t old = fadt_field(40, 4), new = fadt_field(140, 8);
    holds("FACP: it names a DSDT", old != 0 || new != 0, "an address", new);
    holds("FACP: its two addresses of the DSDT agree", old == 0 || new == 0 || old == new, "one address", new);
    uint64_t at = new != 0 ? new : old;
    bool is_there = reachable(at, HEADER) && is_text((uint32_t)at, "DSDT");
    holds("FACP: the DSDT has its signature", is_there, "DSDT", at);
    if (is_there && check_table((uint32_t)at))
        dsdt = (uint32_t)at;
}

static void check_fadt(void)
{
    clause("ACPI 5.2.9: FADT");
    holds("there is a FADT", fadt != 0, "a table FACP", fadt);
    if (fadt == 0)
        return;
    uint32_t length = read32(fadt + 4), flags = (uint32_t)fadt_field(112, 4);
    uint8_t revision = read8(fadt + 8);
    holds("FACP: its length fits its revision",
          length >= (revision >= 5 ? 268u : revision >= 3 ? 244u : 116u), "268 from revision 5, 244 from 3", length);
    if (flags & HARDWARE_REDUCED) {
        holds("FACP: only revision 5 and later are hardware-reduced", revision >= 5, "5 or more", revision);
        skip("FACP: the PM1a event block has 4 bytes", "the platform is hardware-reduced");
        skip("FACP: the PM1a control block has 2 bytes", "the platform is hardware-reduced");
    } else {
        skip("FACP: only revision 5 and later are hardware-reduced", "the platform is not");
        holds("FACP: the PM1a event block has 4 bytes", fadt_field(56, 4) == 0 || fadt_field(88, 1) >= 4, "4 or more",
              fadt_field(88, 1));
        holds("FACP: the PM1a control block has 2 bytes", fadt_field(64, 4) == 0 || fadt_field(89, 1) >= 2, "2 or more",
              fadt_field(89, 1));
    }
    check_dsdt();
    uint64_t facs = fadt_field(36, 4) != 0 ? fadt_field(36, 4) : fadt_field(132, 8);
    clause("ACPI 5.2.10: FACS");
    if (facs == 0) {
        skip("the FACS has its signature", "there is none");
        skip("the FACS is aligned to 64 bytes", "there is none");
    } else {
        bool is_there = reachable(facs, 64) && is_text((uint32_t)facs, "FACS");
        holds("the FACS has its signature", is_there, "FACS", facs);
        bits_clear("the FACS is aligned to 64 bytes", facs, 63);
    }
}

void each_madt_entry(void (*visit)(uint32_t at, uint8_t type, uint8_t bytes))
{
    uint32_t end = madt + read32(madt + 4);
    for (uint32_t at = madt + MADT_ENTRIES; at + 2 <= end;) {
        uint8_t bytes = read8(at + 1);
        if (bytes < 2 || bytes > end - at)
            return;
        visit(at, read8(at), bytes);
        at += bytes;
    }
}

bool dsdt_names(uint32_t id)
{
    if (dsdt == 0)
        return false;
    uint32_t end = dsdt + read32(dsdt + 4);
    for (uint32_t at = dsdt + HEADER; at + 4 <= end; at++)
        if (read32(at) == id)
            return true;
    return false;
}

void check_acpi(void)
{
    group("acpi");
    if (has_start)
        check_rsdp();
    if (rsdp == 0) {
        if (!has_start || start.rsdp == 0)
            skip("there is a FADT", "there is no RSDP");
        return;
    }
    uint64_t xsdt = read8(rsdp + 15) >= 2 ? read64(rsdp + 24) : 0, rsdt = read32(rsdp + 16);
    clause("ACPI 5.2.7, 5.2.8: RSDT, XSDT");
    bool has_root = reachable(xsdt, HEADER) || reachable(rsdt, HEADER);
    holds("the RSDP names a root table", has_root, "an RSDT or XSDT below 4 GiB", xsdt != 0 ? xsdt : rsdt);
    if (!has_root)
        return;
    if (reachable(xsdt, HEADER))
        check_root((uint32_t)xsdt, 8, "XSDT");
    else
        check_root((uint32_t)rsdt, 4, "RSDT");
    check_fadt();
}
