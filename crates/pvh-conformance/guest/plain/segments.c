/* The segments: selectors by their instructions, hidden parts by what an access through them reaches. */
#include "plain.h"

static const char *const clauses[] = {
    [DS_READ] = "pvh.pandoc: ds (32-bit read/write, base 0, limit 4 GiB)",
    [ES_READ] = "pvh.pandoc: es (32-bit read/write, base 0, limit 4 GiB)",
    [SS_READ] = "pvh.pandoc: ss (32-bit read/write, base 0, limit 4 GiB)",
    [CS_READ] = "pvh.pandoc: cs (32-bit read/execute, base 0, limit 4 GiB)",
};

static const char *const names[PLACES][PROBES] = {
    [IN_IMAGE] = {"ds reads in the image", "ds writes in the image", "es reads in the image", "es writes in the image",
                  "ss reads in the image", "ss writes in the image", "cs reads in the image", 0},
    [FAR_RAM] = {"ds reads at 256 MiB and 1 byte", "ds writes at 256 MiB and 1 byte", "es reads at 256 MiB and 1 byte",
                 "es writes at 256 MiB and 1 byte", "ss reads at 256 MiB and 1 byte", "ss writes at 256 MiB and 1 byte",
                 "cs reads at 256 MiB and 1 byte", "cs executes at 256 MiB and 1 byte"},
    [LAST_RAM] = {"ds reads at the end of RAM below 4 GiB", "ds writes at the end of RAM below 4 GiB",
                  "es reads at the end of RAM below 4 GiB", "es writes at the end of RAM below 4 GiB",
                  "ss reads at the end of RAM below 4 GiB", "ss writes at the end of RAM below 4 GiB",
                  "cs reads at the end of RAM below 4 GiB", "cs executes at the end of RAM below 4 GiB"},
    [LAPIC_PAGE] = {"ds reads the local APIC at 0xfee00030", 0, "es reads the local APIC at 0xfee00030", 0,
                    "ss reads the local APIC at 0xfee00030", 0, "cs reads the local APIC at 0xfee00030", 0},
};

static void check_probe(uint32_t place, uint32_t probe)
{
    const char *name = names[place][probe];
    if (name == 0)
        return;
    switch (captured.saw[place][probe]) {
    case GOOD:
        holds(name, true, "", 0);
        return;
    case OTHER_MEMORY:
        holds(name, false, "the memory that ds reaches", captured.place[place]);
        return;
    case FAULTED:
        holds(name, false, "no fault", captured.place[place]);
        return;
    case UNKNOWABLE:
        skip(name, "an earlier fault replaced cs");
        return;
    default:
        if (captured.saw[place][DS_READ] == FAULTED)
            skip(name, "ds does not reach it");
        else
            skip(name, place == LAPIC_PAGE ? "there is no local APIC" : "no RAM is known there");
    }
}

static void check_hidden(uint32_t read)
{
    clause(clauses[read]);
    for (uint32_t place = 0; place < PLACES; place++) {
        check_probe(place, read);
        check_probe(place, read + 1);
    }
}

static void check_selectors(void)
{
    clause("x86: privilege of the selectors");
    bits_clear("cs: its RPL is 0", at_entry.cs, 3);
    bits_clear("ss: its RPL is 0", at_entry.ss, 3);
    clause("pvh.pandoc: tr (an active 32-bit TSS, base 0, limit 0x67)");
    bits_clear("tr: its selector names the GDT", at_entry.tr, 4);
    bits_clear("tr: its RPL is 0", at_entry.tr, 3);
    clause("Xen: selectors are 0");
    equal("cs: its selector is 0", 0, at_entry.cs);
    equal("ds: its selector is 0", 0, at_entry.ds);
    equal("es: its selector is 0", 0, at_entry.es);
    equal("ss: its selector is 0", 0, at_entry.ss);
    equal("fs: its selector is 0", 0, at_entry.fs);
    equal("gs: its selector is 0", 0, at_entry.gs);
    equal("tr: its selector is 0", 0, at_entry.tr);
    equal("ldtr: its selector is 0", 0, at_entry.ldtr);
}

void check_segments(void)
{
    group("segments");
    check_selectors();
    check_hidden(CS_READ);
    check_hidden(DS_READ);
    check_hidden(ES_READ);
    check_hidden(SS_READ);
    equal("ss: a push uses 32 bits of esp", PUSH_TOP - 4, captured.pushed_esp);
}
