/* Hypercalls through the page, from 32- or 64-bit code, and without it from 16-bit code. */
#include "secondary.h"

enum { LEAVES_FIRST = 0x40000000, LEAVES_END = 0x40010000, LEAVES_STEP = 0x100, LEAF_PAGE = 2, OUT_EAX = 0xe7, OPERAND_SIZE = 0x66 };

bool wide, narrow;
uint8_t hypercall_page[PAGE] __attribute__((aligned(PAGE)));
uint32_t xen_leaves;

bool find_xen(void)
{
    for (uint32_t leaf = LEAVES_FIRST; leaf < LEAVES_END; leaf += LEAVES_STEP) {
        struct cpuid r = cpuid(leaf);
        if (r.ebx == 0x566e6558 && r.ecx == 0x65584d4d && r.edx == 0x4d4d566e) {
            xen_leaves = leaf;
            return true;
        }
    }
    return false;
}

/* Copies the stubs' call instruction for 16-bit code, which would decode the stubs differently. */
static void fill_16_bit_stub(void)
{
    const uint8_t *leaves = &hypercall_page[5];
    bool by_port = leaves[0] == OUT_EAX;
    put(hypercall_16, 0, 1, by_port ? OPERAND_SIZE : leaves[0]);
    put(hypercall_16, 1, 1, leaves[by_port ? 0 : 1]);
    put(hypercall_16, 2, 1, leaves[by_port ? 1 : 2]);
    put(code_16, 2, 3, AT(start_16));
    put(code_16, 7, 1, AT(start_16) >> 24);
}

void fill_hypercall_page(void)
{
    write_msr(cpuid(xen_leaves + LEAF_PAGE).ebx, AT(hypercall_page));
    fill_16_bit_stub();
}

int64_t call(uint32_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    if (wide) {
        struct call64 args = {number, {a, b, c, d, e}};
        return (int64_t)call64(&args);
    }
    uint32_t (*from)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t) = narrow ? call16 : call32;
    return (int32_t)from(number, (uint32_t)a, (uint32_t)b, (uint32_t)c, (uint32_t)d, (uint32_t)e);
}

void use_long_mode(bool on)
{
    if (on)
        long_mode_on(root_of_4_levels());
    else
        long_mode_off();
    wide = on;
}

void put(void *structure, uint32_t offset, uint32_t bytes, uint64_t value)
{
    for (uint32_t i = 0; i < bytes; i++)
        ((volatile uint8_t *)structure)[offset + i] = (uint8_t)(value >> (8 * i));
}

void put_pointer(void *structure, uint32_t offset, uint32_t address)
{
    put(structure, offset, wide ? 8 : 4, address);
}

uint64_t take(const void *structure, uint32_t offset, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint64_t)((const volatile uint8_t *)structure)[offset + i] << (8 * i);
    return value;
}

bool is_zero(const void *from, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        if (((const volatile uint8_t *)from)[i] != 0)
            return false;
    return true;
}

uint32_t scratch_frames(uint32_t count)
{
    static uint32_t next = SCRATCH_GFN;
    uint32_t first = next;
    next += count;
    return first;
}

void *frame(uint32_t gfn)
{
    return (void *)(gfn << 12);
}
