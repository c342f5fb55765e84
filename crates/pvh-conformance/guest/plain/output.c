/* Where the report goes: COM1, the Xen console, or port 0xE9, the first that answers, or the one that the command line
   names by `output=com1`, `output=xen` or `output=e9`. */
#include "../xen.h"
#include "plain.h"

enum {
    COM1_LINE_STATUS = 0x3fd,
    ABSENT = 0xff,
    HVM_OP = 34, GET_PARAM = 1, PARAM_CONSOLE_PFN = 17, PARAM_CONSOLE_EVTCHN = 18,
    EVENT_OP = 32, EVENT_SEND = 4,
    DOMID_SELF = 0x7ff0,
    OUT_AT = 1024, OUT_BYTES = 2048, OUT_CONS = 3080, OUT_PROD = 3084,
    STALLS = 1000000,
};

static uint32_t ring, port, produced;
static bool is_open;

static uint32_t param(uint32_t index)
{
    static struct {
        uint32_t domid, index;
        uint64_t value;
    } argument;
    argument.domid = DOMID_SELF;
    argument.index = index;
    argument.value = 0;
    return xen_call(HVM_OP, GET_PARAM, (uint32_t)&argument, 0) == 0 ? (uint32_t)argument.value : 0;
}

static volatile uint32_t *word(uint32_t offset)
{
    return (volatile uint32_t *)(ring + offset);
}

static void publish(void)
{
    __asm__ volatile("" ::: "memory");
    *word(OUT_PROD) = produced;
    xen_call(EVENT_OP, EVENT_SEND, (uint32_t)&port, 0);
}

/* Waits for room. If the back end never reads, the bytes that do not fit are lost. */
static void put(char byte)
{
    for (uint32_t stall = 0; produced - *word(OUT_CONS) >= OUT_BYTES; stall++) {
        if (stall == 0)
            publish();
        if (stall >= STALLS)
            return;
        xen_call(SCHED_OP, 0, 0, 0);
    }
    *(volatile uint8_t *)(ring + OUT_AT + produced % OUT_BYTES) = (uint8_t)byte;
    produced++;
    if (byte == '\n')
        publish();
}

static bool open_ring(void)
{
    if (!xen_open())
        return false;
    uint32_t page = param(PARAM_CONSOLE_PFN);
    port = param(PARAM_CONSOLE_EVTCHN);
    if (page == 0 || page >= 0x100000 || port == 0)
        return false;
    ring = page << 12;
    produced = *word(OUT_PROD);
    console_divert(put);
    return true;
}

static void put_port(char byte)
{
    out8(0xe9, (uint8_t)byte);
}

static bool is_asked(const char *option)
{
    return has_start && value_of(start.cmdline, option) != 0;
}

void open_output(void)
{
    if (is_open)
        return;
    is_open = true;
    console_open();
    uint8_t status = in8(COM1_LINE_STATUS);
    bool wants_ring = is_asked("output=xen"), wants_port = is_asked("output=e9");
    bool has_com1 = status != ABSENT && status != 0;
    if (wants_ring || wants_port)
        has_com1 = false;
    bool has_ring = !has_com1 && !wants_port && open_ring();
    if (!has_com1 && !has_ring)
        console_divert(put_port);
    print("\n");
    report_begin();
    note("output");
    print(has_com1 ? "COM1\n" : has_ring ? "the Xen console\n" : "port 0xE9\n");
}

void flush_output(void)
{
    if (ring == 0)
        return;
    publish();
    for (uint32_t stall = 0; *word(OUT_CONS) != produced && stall < STALLS; stall++)
        xen_call(SCHED_OP, 0, 0, 0);
}
