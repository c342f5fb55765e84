/* The local APIC as it was before the guest wrote to it: idle, so that a guest that enables it gets no interrupt that
   it did not ask for. */
#include "plain.h"

enum {
    MASKED = 1 << 16,
    DELIVERS_NMI = 4 << 8,
    DELIVERS_EXTINT = 7 << 8,
    DELIVERY = 7 << 8,
};

static uint32_t reg(uint32_t offset)
{
    return captured.lapic[offset / 16];
}

static uint32_t any(uint32_t offset)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < 8; i++)
        all |= reg(offset + 16 * i);
    return all;
}

/* A line that is masked, or that delivers what a PC's firmware may leave on. */
static bool is_quiet(uint32_t entry, uint32_t delivery)
{
    return entry & MASKED || (entry & DELIVERY) == delivery;
}

static void check_registers(void)
{
    uint32_t version = reg(LAPIC_VERSION), lines = (version >> 16 & 0xff) + 1;
    clause("SDM: local APIC, version");
    equal("it is an integrated APIC", 0x10, version & 0xf0);
    holds("it has at least four lines", lines >= 4, "4 to 7", lines);
    clause("SDM: local APIC, its id is the one of CPUID");
    equal("its id is the one of CPUID", cpuid(1).ebx >> 24, reg(LAPIC_ID) >> 24);
    clause("guests: the local APIC is idle");
    equal("no interrupt is in service", 0, any(0x100));
    equal("no interrupt is requested", 0, any(0x200));
    equal("no interrupt is level-triggered", 0, any(0x180));
    equal("the task priority is 0", 0, reg(0x80));
    equal("no error is recorded", 0, reg(0x280));
    bits_clear("no inter-processor interrupt is on its way", reg(LAPIC_ICR), 1 << 12);
    bits_set("the timer's line is masked", reg(LAPIC_TIMER), MASKED);
    equal("the timer is stopped", 0, reg(LAPIC_TIMER_INITIAL));
    if (lines > 5)
        bits_set("the thermal line is masked", reg(0x330), MASKED);
    if (lines > 4)
        bits_set("the performance line is masked", reg(0x340), MASKED);
    bits_set("the error line is masked", reg(0x370), MASKED);
    holds("line 0 is masked or for the PIC", is_quiet(reg(0x350), DELIVERS_EXTINT), "masked, or ExtINT", reg(0x350));
    holds("line 1 is masked or for the NMI", is_quiet(reg(0x360), DELIVERS_NMI), "masked, or NMI", reg(0x360));
    clause("SDM: local APIC, destinations after reset");
    equal("the logical destination is 0", 0, reg(0xd0));
    equal("the destination format is flat", 0xffffffff, reg(0xe0));
    bits_set("the spurious vector ends in four ones", reg(LAPIC_SVR), 0xf);
}

void check_lapic(void)
{
    group("lapic");
    if (captured.has_lapic) {
        check_registers();
    } else {
        clause("SDM: local APIC, version");
        skip("it is an integrated APIC", "CPUID says that there is none");
    }
}
