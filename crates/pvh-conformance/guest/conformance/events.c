/* Event channels, two-level: the effect of each operation. */
#include "conformance.h"

enum { CLOSED, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI };

int64_t event_op(uint32_t op, void *argument)
{
    return call2(EVENT_CHANNEL_OP, op, AT(argument));
}

int64_t event_port_op(uint32_t op, uint32_t port)
{
    return event_op(op, &port);
}

uint32_t bind_ipi(uint32_t vcpu)
{
    volatile uint32_t op[2] = {vcpu, 0};
    event_op(EVENT_BIND_IPI, (void *)op);
    return op[1];
}

uint32_t bind_timer(void)
{
    volatile uint32_t op[3] = {0, 0, 0};
    event_op(EVENT_BIND_VIRQ, (void *)op);
    return op[2];
}

/* Word 2 is the state, 3 the vCPU, 4 and 5 what it is bound to. */
static uint32_t status(uint32_t port, uint32_t word)
{
    volatile uint32_t op[6] = {DOMID_SELF, port, 0, 0, 0, 0};
    event_op(EVENT_STATUS, (void *)op);
    return op[word];
}

static void check_pair(void)
{
    volatile uint16_t alloc[4] = {DOMID_SELF, DOMID_SELF};
    expect(0, event_op(EVENT_ALLOC_UNBOUND, (void *)alloc), "alloc_unbound");
    uint32_t one = alloc[2];
    expect_true(one != 0, "alloc_unbound gives a port");
    expect(UNBOUND, status(one, 2), "status of an unbound port");
    expect(0, event_port_op(EVENT_SEND, one), "send on an unbound port");
    volatile uint32_t bind[3] = {DOMID_SELF, one, 0};
    expect(0, event_op(EVENT_BIND_INTERDOMAIN, (void *)bind), "bind_interdomain");
    uint32_t two = bind[2];
    expect(INTERDOMAIN, status(one, 2), "status of the port that was unbound");
    expect(two, status(one, 5), "its peer");
    expect_true(is_pending(two), "bind_interdomain leaves the local port pending");
    expect(-EINVAL, event_op(EVENT_BIND_INTERDOMAIN, (void *)bind), "bind_interdomain to a bound port");
    clear_pending(two);
    settle();
    expect(0, event_port_op(EVENT_SEND, one), "send on an interdomain port");
    expect_true(is_pending(two) && !is_pending(one), "it pends at the peer");
    expect(1, *upcall_pending(0), "the upcall flag is set");
    expect_true(pending_selector(0) >> two / (shared_wide ? 64 : 32) & 1, "the selector has the word");
    clear_pending(two);
    expect(0, event_port_op(EVENT_CLOSE, two), "close");
    expect(CLOSED, status(two, 2), "status of a closed port");
    expect(UNBOUND, status(one, 2), "the peer of a closed port is unbound");
    expect(0, event_port_op(EVENT_CLOSE, one), "close of an unbound port");
    expect(-EINVAL, event_port_op(EVENT_CLOSE, one), "close of a closed port");
    alloc[0] = alloc[1] = DOMID_SELF;
    event_op(EVENT_ALLOC_UNBOUND, (void *)alloc);
    expect(one < two ? one : two, alloc[2], "the lowest free port is given");
    event_port_op(EVENT_CLOSE, alloc[2]);
}

static void check_masks(void)
{
    uint32_t port = bind_ipi(0);
    set_mask(port, true);
    settle();
    expect(0, event_port_op(EVENT_SEND, port), "send on a masked port");
    expect_true(is_pending(port), "it pends");
    expect(0, *upcall_pending(0), "it raises no upcall");
    expect(0, event_port_op(EVENT_UNMASK, port), "unmask");
    expect_true(!is_masked(port), "the mask bit is clear");
    expect(1, *upcall_pending(0), "the pending port raises the upcall");
    settle();
    expect(0, event_port_op(EVENT_UNMASK, port), "unmask of a port that is not masked");
    expect(0, *upcall_pending(0), "it raises nothing again");
    expect(0, event_port_op(EVENT_SEND, port), "send on a pending port");
    expect(0, *upcall_pending(0), "it raises nothing either");
    clear_pending(port);
    event_port_op(EVENT_SEND, port);
    expect(1, *upcall_pending(0), "send on an idle port raises the upcall");
    clear_pending(port);
    set_mask(port, true);
    settle();
    event_port_op(EVENT_UNMASK, port);
    expect(0, *upcall_pending(0), "unmask of an idle port raises nothing");
    event_port_op(EVENT_CLOSE, port);
}

static void check_virqs(void)
{
    volatile uint32_t op[3] = {0, 0, 0};
    expect(0, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq of the timer");
    uint32_t timer = op[2];
    expect(VIRQ, status(timer, 2), "status of a VIRQ");
    expect(0, status(timer, 4), "its number");
    expect(-EEXIST, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq again");
    expect(-EINVAL, event_port_op(EVENT_SEND, timer), "send on a VIRQ");
    op[1] = 1;
    expect(0, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq of the timer on vCPU 1");
    expect(1, status(op[2], 3), "its vCPU");
    event_port_op(EVENT_CLOSE, op[2]);
    op[0] = 2;
    expect(-EINVAL, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq of a global one on vCPU 1");
    op[1] = 0;
    expect(0, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq of a global one");
    event_port_op(EVENT_CLOSE, op[2]);
    op[0] = 24;
    expect(-EINVAL, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq of VIRQ 24");
    op[0] = 1;
    op[1] = NO_VCPU;
    expect(-ENOENT, event_op(EVENT_BIND_VIRQ, (void *)op), "bind_virq on no vCPU");
    volatile uint32_t move[2] = {timer, 1};
    expect(-EINVAL, event_op(EVENT_BIND_VCPU, (void *)move), "bind_vcpu of a VIRQ of each vCPU");
    event_port_op(EVENT_CLOSE, timer);
}

static void check_ipis(void)
{
    volatile uint32_t op[2] = {0, 0};
    expect(0, event_op(EVENT_BIND_IPI, (void *)op), "bind_ipi");
    uint32_t port = op[1];
    expect(IPI, status(port, 2), "status of an IPI");
    expect(0, event_port_op(EVENT_SEND, port), "send on an IPI");
    expect_true(is_pending(port), "it pends");
    clear_pending(port);
    volatile uint32_t move[2] = {port, 1};
    expect(-EINVAL, event_op(EVENT_BIND_VCPU, (void *)move), "bind_vcpu of an IPI");
    event_port_op(EVENT_CLOSE, port);
    op[0] = NO_VCPU;
    expect(-ENOENT, event_op(EVENT_BIND_IPI, (void *)op), "bind_ipi on no vCPU");
    op[0] = 2;
    expect(0, event_op(EVENT_BIND_IPI, (void *)op), "bind_ipi on a vCPU that is down");
    settle();
    expect(0, event_port_op(EVENT_SEND, op[1]), "send to a vCPU that is down");
    expect_true(is_pending(op[1]) && *upcall_pending(2) == 1, "its upcall flag is set");
    expect(0, *upcall_pending(0), "the sender's is not");
    clear_pending(op[1]);
    event_port_op(EVENT_CLOSE, op[1]);
}

static void check_affinity(void)
{
    volatile uint16_t alloc[4] = {DOMID_SELF, DOMID_SELF};
    event_op(EVENT_ALLOC_UNBOUND, (void *)alloc);
    uint32_t port = alloc[2];
    volatile uint32_t move[2] = {port, 1};
    expect(0, event_op(EVENT_BIND_VCPU, (void *)move), "bind_vcpu");
    expect(1, status(port, 3), "status names the vCPU");
    move[1] = NO_VCPU;
    expect(-ENOENT, event_op(EVENT_BIND_VCPU, (void *)move), "bind_vcpu to no vCPU");
    event_port_op(EVENT_CLOSE, port);
    move[1] = 0;
    expect(-EINVAL, event_op(EVENT_BIND_VCPU, (void *)move), "bind_vcpu of a closed port");
}

void check_events(void)
{
    expect(INTERDOMAIN, status(console_port(), 2), "status of the console's port");
    expect(BACKEND, status(console_port(), 4) & 0xffff, "the backend of the console");
    check_pair();
    check_masks();
    check_virqs();
    check_ipis();
    check_affinity();
}
