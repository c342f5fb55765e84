/* Page tables that map each address below 4 GiB to itself, in the three shapes that x86 had by 2003. */
#include "conformance.h"

#define CR0_PG 0x80000000u

enum { CR4_PSE = 0x10, P = 1, RW = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80 };

static uint64_t top[512] __attribute__((aligned(PAGE)));
static uint64_t third[512] __attribute__((aligned(PAGE)));
static uint64_t second[4 * 512] __attribute__((aligned(PAGE)));
static uint64_t third_of_pae[4] __attribute__((aligned(PAGE)));
static uint32_t directory[1024] __attribute__((aligned(PAGE)));

static bool paged;

void build_page_tables(void)
{
    for (uint32_t i = 0; i < COUNT(second); i++)
        second[i] = (uint64_t)i << 21 | P | RW | USER | ACCESSED | DIRTY | LARGE;
    for (uint32_t i = 0; i < 4; i++) {
        third[i] = AT(&second[512 * i]) | P | RW | USER | ACCESSED;
        third_of_pae[i] = AT(&second[512 * i]) | P;
    }
    top[0] = AT(third) | P | RW | USER | ACCESSED;
    for (uint32_t i = 0; i < COUNT(directory); i++)
        directory[i] = i << 22 | P | RW | USER | ACCESSED | DIRTY | LARGE;
    paged = paging_on(root_of_2_levels(), CR4_PSE) & CR0_PG;
    paging_off();
}

uint32_t root_of_4_levels(void)
{
    return AT(top);
}

uint32_t root_of_pae(void)
{
    return AT(third_of_pae);
}

uint32_t root_of_2_levels(void)
{
    return AT(directory);
}

bool pages_32_bit_code(void)
{
    return paged;
}
