/* The shared info page: flags, event words and clocks, in the layout that was latched. */
#include "conformance.h"

enum {
    ADD_TO_PHYSMAP = 7, SPACE_SHARED_INFO = 0, HVM_GET_TIME = 10,
    PENDING = 2048, MASK_NATIVE = 2560, MASK_COMPAT = 2176, MS = 1000000,
};

uint8_t *shared_info;
bool shared_wide;
uint8_t *vcpu_info[4];

int64_t map_shared_info(uint32_t gfn)
{
    uint32_t op[6] = {0};
    put(op, 0, 2, DOMID_SELF);
    put(op, 4, 4, SPACE_SHARED_INFO);
    put(op, W(16, 12), W(8, 4), gfn);
    int64_t result = call2(MEMORY_OP, ADD_TO_PHYSMAP, AT(op));
    if (result != 0)
        return result;
    uint8_t *old = shared_info;
    shared_info = frame(gfn);
    for (uint32_t vcpu = 0; vcpu < COUNT(vcpu_info); vcpu++)
        if (vcpu_info[vcpu] == 0 || vcpu_info[vcpu] == old + 64 * vcpu)
            vcpu_info[vcpu] = shared_info + 64 * vcpu;
    return 0;
}

volatile uint8_t *upcall_pending(uint32_t vcpu)
{
    return vcpu_info[vcpu];
}

uint64_t pending_selector(uint32_t vcpu)
{
    return take(vcpu_info[vcpu], shared_wide ? 8 : 4, shared_wide ? 8 : 4);
}

void clear_selector(uint32_t vcpu)
{
    put(vcpu_info[vcpu], shared_wide ? 8 : 4, shared_wide ? 8 : 4, 0);
}

/* A bit map has the same bytes in both widths. */
bool is_pending(uint32_t port)
{
    return take(shared_info, PENDING + port / 8, 1) >> port % 8 & 1;
}

void clear_pending(uint32_t port)
{
    uint8_t *byte = shared_info + PENDING + port / 8;
    __asm__ volatile("lock andb %1, %0" : "+m"(*byte) : "q"((uint8_t)~(1 << port % 8)) : "memory");
}

static uint8_t *mask_byte(uint32_t port)
{
    return shared_info + (shared_wide ? MASK_NATIVE : MASK_COMPAT) + port / 8;
}

void set_mask(uint32_t port, bool masked)
{
    uint8_t *byte = mask_byte(port);
    uint8_t bit = (uint8_t)(1 << port % 8);
    if (masked)
        __asm__ volatile("lock orb %1, %0" : "+m"(*byte) : "q"(bit) : "memory");
    else
        __asm__ volatile("lock andb %1, %0" : "+m"(*byte) : "q"((uint8_t)~bit) : "memory");
}

bool is_masked(uint32_t port)
{
    return *(volatile uint8_t *)mask_byte(port) >> port % 8 & 1;
}

void settle(void)
{
    *upcall_pending(0) = 0;
    clear_selector(0);
}

uint64_t now(void)
{
    uint64_t time = 0;
    call2(HVM_OP, HVM_GET_TIME, AT(&time));
    return *(volatile uint64_t *)&time;
}

void wait_ms(uint32_t ms)
{
    uint64_t end = now() + (uint64_t)ms * MS;
    while (now() < end)
        call2(SCHED_OP, 0, 0);
}

bool wait_until(bool (*done)(void), uint32_t ms)
{
    uint64_t end = now() + (uint64_t)ms * MS;
    while (!done()) {
        if (now() >= end)
            return done();
        call2(SCHED_OP, 0, 0);
    }
    return true;
}
