/* The PV console ring: the report goes there if it exists. */
#include "conformance.h"

enum { OUT_AT = 1024, OUT_BYTES = 2048, OUT_CONS = 3080, OUT_PROD = 3084, STALLS = 1000000 };

static uint8_t *ring;
static uint32_t port, remote_port;
static uint32_t produced;

static uint32_t word(uint32_t offset)
{
    return *(volatile uint32_t *)(ring + offset);
}

uint32_t console_port(void)
{
    return port;
}

static void notify(void)
{
    event_port_op(EVENT_SEND, port);
}

static void publish(void)
{
    __asm__ volatile("" ::: "memory");
    *(volatile uint32_t *)(ring + OUT_PROD) = produced;
    notify();
}

/* Waits for room. If the back end never reads, the bytes that do not fit are lost. */
static void ring_put(char byte)
{
    for (uint32_t stall = 0; produced - word(OUT_CONS) >= OUT_BYTES; stall++) {
        if (stall == 0)
            publish();
        if (stall >= STALLS)
            return;
        call2(SCHED_OP, 0, 0);
    }
    ring[OUT_AT + produced % OUT_BYTES] = (uint8_t)byte;
    produced++;
    if (byte == '\n')
        publish();
}

bool console_ring_open(void)
{
    uint64_t gfn = 0, number = 0;
    if (get_param(PARAM_CONSOLE_PFN, &gfn) != 0 || get_param(PARAM_CONSOLE_EVTCHN, &number) != 0)
        return false;
    if (gfn == 0 || number == 0)
        return false;
    ring = frame((uint32_t)gfn);
    port = (uint32_t)number;
    produced = word(OUT_PROD);
    uint32_t status[6] = {DOMID_SELF, port};
    event_op(EVENT_STATUS, status);
    remote_port = status[5];
    console_divert(ring_put);
    return true;
}

void console_ring_flush(void)
{
    if (ring == 0)
        return;
    publish();
    for (uint32_t stall = 0; word(OUT_CONS) != produced && stall < STALLS; stall++)
        call2(SCHED_OP, 0, 0);
}

void console_ring_rebind(void)
{
    if (ring == 0)
        return;
    set_mask(port, false);
    uint32_t bind[3] = {BACKEND, remote_port, 0};
    if (event_op(EVENT_BIND_INTERDOMAIN, bind) == 0)
        port = bind[2];
    set_mask(port, true);
    notify();
}
