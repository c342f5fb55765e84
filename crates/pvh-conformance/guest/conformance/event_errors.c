/* Event channels: the errors of each operation; the number of ports; reset. */
#include "conformance.h"

enum { NO_PORT = 0x20000, PORTS_LIMIT = 4096 };

struct refusal {
    const char *name;
    uint8_t op;
    int8_t want;
    uint32_t words[6];
};

static const struct refusal refusals[] = {
    {"status of no domain", EVENT_STATUS, -ESRCH, {DOMID_NONE, 1}},
    {"status of another domain", EVENT_STATUS, -EPERM, {BACKEND, 1}},
    {"status of no port", EVENT_STATUS, -EINVAL, {DOMID_SELF, NO_PORT}},
    {"status of port 0", EVENT_STATUS, 0, {DOMID_SELF, 0}},
    {"alloc_unbound for no domain", EVENT_ALLOC_UNBOUND, -ESRCH, {DOMID_NONE | DOMID_SELF << 16}},
    {"alloc_unbound for another domain", EVENT_ALLOC_UNBOUND, -EPERM, {BACKEND | DOMID_SELF << 16}},
    {"alloc_unbound to no domain", EVENT_ALLOC_UNBOUND, 0, {DOMID_SELF | DOMID_NONE << 16}},
    {"bind_interdomain to no domain", EVENT_BIND_INTERDOMAIN, -ESRCH, {DOMID_NONE, 1}},
    {"bind_interdomain to no port", EVENT_BIND_INTERDOMAIN, -EINVAL, {DOMID_SELF, NO_PORT}},
    {"bind_interdomain to a closed port", EVENT_BIND_INTERDOMAIN, -EINVAL, {DOMID_SELF, 40}},
    {"bind_interdomain to another's port", EVENT_BIND_INTERDOMAIN, -EINVAL, {BACKEND, 900}},
    {"bind_pirq", EVENT_BIND_PIRQ, 0, {5, 0}},
    {"bind_pirq of no pirq", EVENT_BIND_PIRQ, -EINVAL, {0x10000, 0}},
    {"close of port 0", EVENT_CLOSE, -EINVAL, {0}},
    {"close of no port", EVENT_CLOSE, -EINVAL, {NO_PORT}},
    {"send on port 0", EVENT_SEND, -EINVAL, {0}},
    {"send on a closed port", EVENT_SEND, -EINVAL, {40}},
    {"send on no port", EVENT_SEND, -EINVAL, {NO_PORT}},
    {"bind_vcpu of no port", EVENT_BIND_VCPU, -EINVAL, {NO_PORT, 0}},
    {"unmask of no port", EVENT_UNMASK, -EINVAL, {NO_PORT}},
    {"unmask of a closed port", EVENT_UNMASK, 0, {40}},
    {"reset of no domain", EVENT_RESET, -ESRCH, {DOMID_NONE}},
    {"reset of another domain", EVENT_RESET, -EPERM, {BACKEND}},
    {"init_control of no vCPU", EVENT_INIT_CONTROL, -ENOENT, {SCRATCH_GFN - 1, 0, 0, NO_VCPU}},
    {"init_control at offset 4032", EVENT_INIT_CONTROL, -EINVAL, {SCRATCH_GFN - 1, 0, 4032, 0}},
    {"init_control at offset 4", EVENT_INIT_CONTROL, -EINVAL, {SCRATCH_GFN - 1, 0, 4, 0}},
    {"init_control in a hole", EVENT_INIT_CONTROL, -EINVAL, {HOLE_GFN + 4, 0, 0, 0}},
    {"expand_array without FIFO", EVENT_EXPAND_ARRAY, -EOPNOTSUPP, {SCRATCH_GFN - 1, 0}},
    {"set_priority without FIFO", EVENT_SET_PRIORITY, -ENOSYS, {1, 3}},
    {"set_priority of no port", EVENT_SET_PRIORITY, -EINVAL, {NO_PORT, 3}},
    {"sub-op 15", 15, -ENOSYS, {0}},
    {"sub-op 99", 99, -ENOSYS, {0}},
};

static void check_refusals(void)
{
    for (uint32_t i = 0; i < COUNT(refusals); i++) {
        uint32_t argument[6];
        memcpy(argument, refusals[i].words, sizeof argument);
        expect(refusals[i].want, event_op(refusals[i].op, argument), refusals[i].name);
    }
}

static void check_pointers(void)
{
    static const char *const names[] = {
        "bind_interdomain", "bind_virq", "bind_pirq", "close", "send", "status", "alloc_unbound", "bind_ipi",
        "bind_vcpu", "unmask", "reset", "init_control", "expand_array", "set_priority",
    };
    for (uint32_t op = 0; op < COUNT(names); op++)
        expect(-EFAULT, event_op(op, (void *)BAD), named(names[op], "with a bad pointer"));
}

/* Allocates all ports, and frees them. */
static void check_limit(void)
{
    static uint16_t taken[PORTS_LIMIT];
    uint32_t count = 0, highest = 0;
    int64_t result = 0;
    while (count < PORTS_LIMIT) {
        volatile uint16_t alloc[4] = {DOMID_SELF, DOMID_SELF};
        result = event_op(EVENT_ALLOC_UNBOUND, (void *)alloc);
        if (result != 0)
            break;
        taken[count++] = alloc[2];
        if (alloc[2] > highest)
            highest = alloc[2];
    }
    expect(-ENOSPC, result, "alloc_unbound when no port is free");
    expect(1023, highest, "the highest port");
    volatile uint32_t op[3] = {0, 0, 0};
    expect(-ENOSPC, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq when no port is free");
    expect(-ENOSPC, event_op(EVENT_BIND_IPI, (void *)op), "bind_ipi when no port is free");
    uint32_t refused = 0;
    while (count-- > 0)
        if (event_port_op(EVENT_CLOSE, taken[count]) != 0)
            refused++;
    expect(0, refused, "all of them are closed again");
}

static void check_reset(void)
{
    uint32_t ipi = bind_ipi(0);
    uint16_t self = DOMID_SELF;
    expect(0, event_op(EVENT_RESET, &self), "reset");
    expect(-EINVAL, event_port_op(EVENT_CLOSE, ipi), "a port from before the reset is closed");
    expect(-EINVAL, event_port_op(EVENT_CLOSE, console_port()), "the console's port, too");
    console_ring_rebind();
    volatile uint32_t status[6] = {DOMID_SELF, console_port()};
    expect(0, event_op(EVENT_STATUS, (void *)status), "status of the console's port, bound anew");
    expect(2, status[2], "it is interdomain");
}

void check_event_errors(void)
{
    check_refusals();
    check_pointers();
    check_limit();
    check_reset();
}
