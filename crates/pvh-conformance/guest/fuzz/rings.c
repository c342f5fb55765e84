/* Rings that the guest shares with the hypervisor: the store's and the console's. */
#include "fuzz.h"

enum {
    HVM_OP = 34,
    EVENT_CHANNEL_OP = 32,
    GET_PARAM = 1,
    SEND = 4,
    STORE_PFN = 1,
    STORE_EVTCHN = 2,
    CONSOLE_PFN = 17,
    CONSOLE_EVTCHN = 18,
    STORE_INDICES = 2048,
    CONSOLE_INDICES = 3072,
};

static struct {
    uint32_t domain, index;
    uint64_t value;
} param __attribute__((aligned(8)));

static uint32_t get(uint32_t index)
{
    param.domain = 0x7ff0;
    param.index = index;
    param.value = 0;
    xen_call(HVM_OP, GET_PARAM, (uint32_t)&param, 0);
    return (uint32_t)param.value;
}

/* Writes bytes or an index, and sends the event. */
uint32_t step_ring(const struct step *step)
{
    bool is_store = step->a & 1;
    uint32_t frame = get(is_store ? STORE_PFN : CONSOLE_PFN);
    if (frame == 0 || (frame >= 0x90 && frame < 0x400))
        return 0;
    uint32_t page = frame << 12, indices = page + (is_store ? STORE_INDICES : CONSOLE_INDICES);
    switch (step->b & 3) {
    case 0:
        for (uint32_t i = 0; i < 16; i++)
            *(volatile uint32_t *)(page + ((step->words[0] + 4 * i) & 0x7fc)) = random_argument();
        *(volatile uint32_t *)(indices + (is_store ? 0 : 8)) += 16 + (step->words[1] & 31);
        break;
    case 1:
        *(volatile uint32_t *)(indices + (step->words[0] & 0xc)) = step->words[1];
        break;
    case 2:
        /* A request of the store: a kind, and a path of one letter. */
        *(volatile uint32_t *)page = step->words[0] & 31;
        *(volatile uint32_t *)(page + 12) = 2;
        *(volatile uint32_t *)(page + 16) = 'a';
        *(volatile uint32_t *)indices = 18;
        break;
    default:
        break;
    }
    static uint32_t port;
    port = get(is_store ? STORE_EVTCHN : CONSOLE_EVTCHN);
    return (uint32_t)xen_call(EVENT_CHANNEL_OP, SEND, (uint32_t)&port, 0);
}
