/* Numbers for steps. */
#include "fuzz.h"

static uint32_t state;

void random_start(uint32_t seed, uint32_t step)
{
    state = seed * 0x9e3779b1u ^ (step + 1) * 0x85ebca6bu;
    for (uint32_t i = 0; i < 4; i++)
        random_word();
}

/* xorshift; a state of 0 would stay 0. */
uint32_t random_word(void)
{
    if (state == 0)
        state = 0x6d2b79f5;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state * 0x2c1b3c6du;
}

uint32_t random_below(uint32_t count)
{
    return (uint32_t)((uint64_t)random_word() * count >> 32);
}

uint32_t random_place(void)
{
    return ARENA + (random_word() & (ARENA_BYTES - 1) & ~7u);
}

/* Keeps away from the image and its stacks, below 4 MiB, as an address and as a frame. */
static uint32_t safe(uint32_t value)
{
    if ((value >= 0x10000 && value < 0x400000) || (value >= 0x90 && value < 0x400))
        return value ^ 0x80000000;
    return value;
}

uint32_t random_argument(void)
{
    static const uint32_t edges[] = {0x7ff0, 0xffffffff, 0x7fffffff, 0x80000000, 0x7ff1, 0xfffffff0};
    switch (random_below(8)) {
    case 0:
    case 1:
        return random_below(32);
    case 2:
        return edges[random_below(sizeof edges / sizeof edges[0])];
    case 3:
        return 0x7ff0;
    case 4:
        return ARENA / 4096 + random_below(ARENA_BYTES / 4096);
    case 5:
        return random_place();
    case 6:
        return ALIAS + (random_word() & (ARENA_BYTES - 1) & ~7u);
    default:
        return safe(random_word() >> random_below(32));
    }
}
