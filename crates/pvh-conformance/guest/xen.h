/* xen.c: hypercalls by the page, for the images that need only a few. */
#ifndef XEN_H
#define XEN_H

#include "guest.h"

enum {
    VCPU_OP = 24,
    SCHED_OP = 29,
    SHUTDOWN_POWEROFF = 0,
    SHUTDOWN_REBOOT = 1,
    SHUTDOWN_CRASH = 3,
};

/* Makes the hypervisor write the hypercall page; false if this is not Xen. */
bool xen_open(void);
/* Only after xen_open. */
int32_t xen_call(uint32_t number, uint32_t a, uint32_t b, uint32_t c);
void xen_shutdown(uint32_t reason);
/* Gives a vCPU flat 32-bit code without paging, a stack that grows down from `top`, and its number as the argument. */
int32_t xen_initialise(uint32_t vcpu, void (*entry)(uint32_t vcpu), uint8_t *top);

#endif
