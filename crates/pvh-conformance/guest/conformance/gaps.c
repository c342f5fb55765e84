/* What a guest by itself cannot reach; listed, so that a missing check is not taken for a passed one. */
#include "conformance.h"

void list_gaps(void)
{
    static const struct { const char *name, *why; } gaps[] = {
        {"SCHEDOP_shutdown with each reason", "it ends the guest, which does it once, at its end"},
        {"the last vCPU down powers the domain off", "it ends the guest"},
        {"HLT without interrupts on the last vCPU powers the domain off", "it ends the guest"},
        {"EVTCHNOP_reset: EBUSY, EAGAIN", "needs a second vCPU at the very same moment"},
        {"bind_virq of a global VIRQ of another domain: EBUSY", "nothing that a guest does alone takes one"},
        {"ENOMEM of any call", "needs a hypervisor out of memory"},
        {"grant_table_op set_version 2", "the toolstack decides whether it is allowed"},
        {"calls from virtual-8086 mode and from 16-bit code", "the page's slots are 32-bit code"},
        {"CALLBACK_IRQ as GSI or PCI line", "a PVH domain has neither"},
        {"a watchdog that runs out", "it ends the guest"},
        {"suspend and resume", "needs the toolstack"},
    };
    begin_section("gaps");
    for (uint32_t i = 0; i < COUNT(gaps); i++)
        gap(gaps[i].name, gaps[i].why);
}
