/* The MADT: the processors and interrupt controllers that the machine has. */
#include "plain.h"

enum {
    LOCAL_APIC = 0, IO_APIC = 1, OVERRIDE = 2, NMI = 4, ADDRESS = 5, LOCAL_X2APIC = 9,
    ENABLED = 1,
    IDS_LIMIT = 256,
};

static uint32_t ids[IDS_LIMIT], uids[IDS_LIMIT], id_count, enabled;
static uint32_t walked, bad_length, io_apics, overrides, override_uses_isa;
static bool are_ids_different = true, are_uids_different = true;
static uint32_t first_double;

static uint8_t right_length(uint8_t type)
{
    static const uint8_t lengths[] = {8, 12, 10, 8, 6, 12, 16, 0, 16, 16, 12};
    return type < sizeof lengths ? lengths[type] : 0;
}

static void take_processor(uint32_t id, uint32_t uid, uint32_t flags)
{
    if (flags & ENABLED)
        enabled++;
    for (uint32_t i = 0; i < id_count; i++) {
        if (ids[i] == id || uids[i] == uid)
            first_double = id;
        are_ids_different = are_ids_different && ids[i] != id;
        are_uids_different = are_uids_different && uids[i] != uid;
    }
    if (id_count < IDS_LIMIT) {
        uids[id_count] = uid;
        ids[id_count++] = id;
    }
}

static void visit(uint32_t at, uint8_t type, uint8_t bytes)
{
    uint8_t right = right_length(type);
    walked += bytes;
    if (right != 0 && bytes != right) {
        bad_length = type + 1u;
        return;
    }
    if (type == LOCAL_APIC)
        take_processor(read8(at + 3), read8(at + 2), read32(at + 4));
    if (type == LOCAL_X2APIC)
        take_processor(read32(at + 4), read32(at + 12), read32(at + 8));
    if (type == IO_APIC)
        io_apics++;
    if (type == OVERRIDE) {
        overrides++;
        override_uses_isa += read8(at + 2) == 0;
    }
}

static bool lists(uint32_t id)
{
    for (uint32_t i = 0; i < id_count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

void check_madt(void)
{
    group("madt");
    clause("ACPI 5.2.12: MADT");
    if (madt == 0) {
        if (fadt == 0)
            skip("there is a MADT", "there are no ACPI tables");
        else
            holds("there is a MADT", false, "a table APIC", 0);
        return;
    }
    holds("there is a MADT", true, "", 0);
    each_madt_entry(visit);
    equal("its entries fill it", read32(madt + 4) - 44, walked);
    holds("every entry has the length of its type", bad_length == 0, "the length of its type", bad_length);
    equal("its local APIC address is 0xfee00000", LAPIC, read32(madt + 36));
    bits_clear("its reserved flags are clear", read32(madt + 40), ~1u);
    holds("an interrupt override is for the ISA bus", override_uses_isa == overrides, "bus 0", overrides);
    holds("it lists a processor", enabled > 0, "an enabled local APIC", enabled);
    holds("the ids of the processors differ", are_ids_different, "different ids", first_double);
    holds("the uids of the processors differ", are_uids_different, "different uids", first_double);
    clause("ACPI 5.2.12.2: MADT ids are those of the local APICs");
    uint32_t id = cpuid(1).ebx >> 24;
    holds("the boot processor's id is listed", lists(id), "the id of CPUID", id);
    equal("it is the first that is listed", id, id_count > 0 ? ids[0] : 0xffffffff);
}
