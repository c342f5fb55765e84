/* The registers at the first instruction. */
#include "plain.h"

struct bit {
    const char *name;
    uint8_t number;
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct bit cr0_clear[] = {
    {"cr0.MP is clear", 1}, {"cr0.EM is clear", 2}, {"cr0.TS is clear", 3}, {"cr0.NE is clear", 5},
    {"cr0.WP is clear", 16}, {"cr0.AM is clear", 18}, {"cr0.NW is clear", 29}, {"cr0.CD is clear", 30},
    {"cr0.PG is clear", 31},
};

static const struct bit cr4_clear[] = {
    {"cr4.VME is clear", 0}, {"cr4.PVI is clear", 1}, {"cr4.TSD is clear", 2}, {"cr4.DE is clear", 3},
    {"cr4.PSE is clear", 4}, {"cr4.PAE is clear", 5}, {"cr4.MCE is clear", 6}, {"cr4.PGE is clear", 7},
    {"cr4.PCE is clear", 8}, {"cr4.OSFXSR is clear", 9}, {"cr4.OSXMMEXCPT is clear", 10}, {"cr4.UMIP is clear", 11},
    {"cr4.LA57 is clear", 12}, {"cr4.VMXE is clear", 13}, {"cr4.SMXE is clear", 14}, {"cr4.FSGSBASE is clear", 16},
    {"cr4.PCIDE is clear", 17}, {"cr4.OSXSAVE is clear", 18}, {"cr4.KL is clear", 19}, {"cr4.SMEP is clear", 20},
    {"cr4.SMAP is clear", 21}, {"cr4.PKE is clear", 22}, {"cr4.CET is clear", 23}, {"cr4.PKS is clear", 24},
    {"cr4.UINTR is clear", 25},
};

static void each_clear(const struct bit *bits, uint32_t count, uint32_t value)
{
    for (uint32_t i = 0; i < count; i++)
        bits_clear(bits[i].name, value, 1u << bits[i].number);
}

static void check_control(void)
{
    clause("pvh.pandoc: cr0");
    bits_set("cr0.PE is set", at_entry.cr0, 1);
    each_clear(cr0_clear, COUNT(cr0_clear), at_entry.cr0);
    bits_clear("cr0: reserved bits are clear", at_entry.cr0, 0x1ffaffc0);
    clause("pvh.pandoc: cr4");
    each_clear(cr4_clear, COUNT(cr4_clear), at_entry.cr4);
    bits_clear("cr4: reserved bits are clear", at_entry.cr4, 0xfc008000);
}

static void check_flags(void)
{
    clause("pvh.pandoc: eflags");
    bits_clear("eflags.VM is clear", at_entry.eflags, 1 << 17);
    bits_clear("eflags.IF is clear", at_entry.eflags, 1 << 9);
    bits_clear("eflags.TF is clear", at_entry.eflags, 1 << 8);
    clause("guests: eflags.DF (a guest's first string instruction goes up)");
    bits_clear("eflags.DF is clear", at_entry.eflags, 1 << 10);
    clause("Xen: other flags");
    bits_clear("eflags.NT is clear", at_entry.eflags, 1 << 14);
    bits_clear("eflags.RF is clear", at_entry.eflags, 1 << 16);
    bits_clear("eflags.AC is clear", at_entry.eflags, 1 << 18);
    bits_clear("eflags.IOPL is 0", at_entry.eflags, 3 << 12);
    bits_clear("eflags: arithmetic flags are clear", at_entry.eflags, 0x8d5);
}

static void check_general(void)
{
    clause("pvh.pandoc: ebx");
    holds("ebx is not 0", at_entry.ebx != 0, "the address of the start info", at_entry.ebx);
    holds("ebx points to the magic number", has_start, "0x336ec578 there", at_entry.ebx);
    clause("Xen: general registers");
    equal("eax is 0", 0, at_entry.eax);
    equal("ecx is 0", 0, at_entry.ecx);
    equal("edx is 0", 0, at_entry.edx);
    equal("esi is 0", 0, at_entry.esi);
    equal("edi is 0", 0, at_entry.edi);
    equal("ebp is 0", 0, at_entry.ebp);
    clause("Xen: cr2 and cr3");
    equal("cr2 is 0", 0, at_entry.cr2);
    equal("cr3 is 0", 0, at_entry.cr3);
}

static void check_debug(void)
{
    clause("Xen: debug registers");
    equal("dr0 is 0", 0, captured.dr[0]);
    equal("dr1 is 0", 0, captured.dr[1]);
    equal("dr2 is 0", 0, captured.dr[2]);
    equal("dr3 is 0", 0, captured.dr[3]);
    equal("dr6 has its reset value", 0xffff0ff0, captured.dr[6]);
    equal("dr7 has its reset value", 0x400, captured.dr[7]);
}

void check_entry(void)
{
    group("entry");
    check_general();
    check_control();
    check_flags();
    check_debug();
}
