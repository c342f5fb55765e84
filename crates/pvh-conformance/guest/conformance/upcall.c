/* The two ways in which an event interrupts a vCPU. */
#include "conformance.h"

enum { LAPIC = 0xfee00000, LAPIC_EOI = 0xb0, LAPIC_SVR = 0xf0, LAPIC_ISR = 0x100, LAPIC_ICR = 0x300,
       SVR_ENABLE = 0x100, DELIVER_INIT = 0x4500, BREATH_NS = 100000000, FIXED_TO_SELF = 1 << 18 | 0x4000, SET_UPCALL_VECTOR = 23 };

volatile uint32_t interrupts[16];
volatile uint32_t nmis;
volatile uint32_t handled_port, handled;

static volatile uint32_t leave_flag; /* this many more interrupts leave the upcall flag unchanged */
static volatile bool send_eoi = true;
static volatile bool in_service;

static volatile uint32_t *lapic(uint32_t offset)
{
    return (volatile uint32_t *)(LAPIC + offset);
}

void lapic_enable(bool on)
{
    *lapic(LAPIC_SVR) = (on ? SVR_ENABLE : 0) | VECTOR_SPURIOUS;
}

void lapic_send_init(uint32_t apic_id)
{
    *lapic(LAPIC_ICR + 0x10) = apic_id << 24;
    *lapic(LAPIC_ICR) = DELIVER_INIT;
}

static bool is_in_service(uint32_t vector)
{
    return *lapic(LAPIC_ISR + vector / 32 * 0x10) >> vector % 32 & 1;
}

/* Called by entry.S, with interrupts off. */
void on_interrupt(uint32_t vector);

void on_interrupt(uint32_t vector)
{
    if (vector == 2) {
        nmis++;
        return;
    }
    if (vector < 0x40 || vector >= 0x50)
        return;
    interrupts[vector - 0x40]++;
    in_service = is_in_service(vector);
    if (leave_flag > 0) {
        leave_flag--;
    } else {
        *upcall_pending(0) = 0;
        clear_selector(0);
    }
    if (handled_port != 0 && is_pending(handled_port)) {
        clear_pending(handled_port);
        handled++;
    }
    if (vector == VECTOR_VCPU && send_eoi)
        *lapic(LAPIC_EOI) = 0;
}

/* Allows interrupts long enough for a hypervisor that is busy or checks only now and then. */
static void breathe_deeply(void)
{
    uint64_t end = now() + BREATH_NS;
    do
        breathe();
    while (now() < end);
}

static uint32_t taken(uint32_t vector)
{
    breathe_deeply();
    uint32_t count = interrupts[vector - 0x40];
    interrupts[vector - 0x40] = 0;
    return count;
}

static void raise(uint32_t port)
{
    clear_pending(port);
    event_port_op(EVENT_SEND, port);
}

static void clean(void)
{
    settle();
    for (uint32_t i = 0; i < COUNT(interrupts); i++)
        interrupts[i] = 0;
}

static int64_t set_vector(uint8_t vector)
{
    struct { uint32_t vcpu; uint8_t vector, pad[3]; } op = {0, vector, {0}};
    return call2(HVM_OP, SET_UPCALL_VECTOR, AT(&op));
}

void use_upcalls(void)
{
    lapic_enable(true);
    clean();
    set_vector(VECTOR_VCPU);
}

/* Whether the local APIC keeps an interrupt in service until its EOI: some emulations do not. */
static bool keeps_in_service(void)
{
    lapic_enable(true);
    clean();
    send_eoi = false;
    *lapic(LAPIC_ICR) = FIXED_TO_SELF | VECTOR_VCPU;
    bool kept = taken(VECTOR_VCPU) == 1 && is_in_service(VECTOR_VCPU);
    send_eoi = true;
    *lapic(LAPIC_EOI) = 0;
    clean();
    return kept;
}

/* A check that only a local APIC with an in-service register can pass. */
static void expect_in_service(bool exact, bool good, const char *name)
{
    if (exact)
        expect_true(good, name);
    else
        gap(name, "this machine's local APIC keeps no interrupt in service");
}

static void check_vcpu_vector(uint32_t port)
{
    bool exact = keeps_in_service();
    expect(0, set_vector(VECTOR_VCPU), "the vector of vCPU 0 is set");
    raise(port);
    expect(1, *upcall_pending(0), "an event sets the flag");
    expect(1, taken(VECTOR_VCPU), "it interrupts once");
    expect_in_service(exact, in_service, "through the local APIC");
    leave_flag = 1;
    raise(port);
    expect(1, taken(VECTOR_VCPU), "a flag that stays set does not interrupt again");
    raise(port);
    expect(0, taken(VECTOR_VCPU), "nor does an event while it is set");
    clean();
    send_eoi = false;
    raise(port);
    expect(1, taken(VECTOR_VCPU), "an event after the flag was cleared does");
    raise(port);
    expect_in_service(exact, taken(VECTOR_VCPU) == 0, "without an EOI the next is held back");
    send_eoi = true;
    *lapic(LAPIC_EOI) = 0;
    expect_in_service(exact, taken(VECTOR_VCPU) == 1, "after the EOI it comes");
    clean();
    lapic_enable(false);
    raise(port);
    expect(0, taken(VECTOR_VCPU), "a local APIC that is off holds it back");
    lapic_enable(true);
    expect(1, taken(VECTOR_VCPU), "turned on, it lets it through");
    clean();
    put(vcpu_info[0], 1, 1, 1);
    raise(port);
    expect(1, taken(VECTOR_VCPU), "the upcall mask does not hold it back");
    put(vcpu_info[0], 1, 1, 0);
    *upcall_pending(0) = 1;
    expect(0, taken(VECTOR_VCPU), "a flag that the guest sets does not interrupt");
    expect(0, set_vector(VECTOR_VCPU), "the vector is set while the flag is");
    expect(1, taken(VECTOR_VCPU), "that interrupts");
}

static void check_global_vector(uint32_t port)
{
    lapic_enable(false);
    clean();
    expect(0, set_param(PARAM_CALLBACK_IRQ, 1), "CALLBACK_IRQ is set to 1");
    expect(0, set_param(PARAM_CALLBACK_IRQ, 2ull << 56 | VECTOR_GLOBAL), "CALLBACK_IRQ is set to a vector");
    shared_wide = wide;
    raise(port);
    expect(1, taken(VECTOR_GLOBAL), "an event interrupts once");
    expect_true(!in_service, "past the local APIC");
    leave_flag = 3;
    raise(port);
    expect(4, taken(VECTOR_GLOBAL), "a flag that stays set interrupts again and again");
    put(vcpu_info[0], 1, 1, 1);
    raise(port);
    expect(1, taken(VECTOR_GLOBAL), "the upcall mask does not hold it back");
    put(vcpu_info[0], 1, 1, 0);
    *upcall_pending(0) = 1;
    call_with_interrupts(XEN_VERSION, 0, 0);
    expect(1, taken(VECTOR_GLOBAL), "a flag that the guest sets interrupts at the next exit");
    clean();
    lapic_enable(true);
    clean();
    raise(port);
    breathe_deeply();
    expect(1, interrupts[0], "with both vectors the global one comes");
    expect(1, interrupts[1], "and that of the vCPU");
    clean();
}

void check_upcalls(void)
{
    uint32_t port = bind_ipi(0);
    check_vcpu_vector(port);
    check_global_vector(port);
    uint64_t value = 0;
    get_param(PARAM_CALLBACK_IRQ, &value);
    expect_hex(2ull << 56 | VECTOR_GLOBAL, value, "CALLBACK_IRQ reads as it was set");
    clear_pending(port);
    event_port_op(EVENT_CLOSE, port);
    clean();
}
