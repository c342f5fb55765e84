/* Several calls in one. */
#include "conformance.h"

static uint64_t list[4 * 8];

static void entry(uint32_t index, uint32_t op, uint32_t a, uint32_t b)
{
    uint8_t *at = (uint8_t *)list + index * W(64, 32);
    memset(at, 0, W(64, 32));
    put(at, 0, W(8, 4), op);
    put(at, W(8, 4), W(8, 4), 0x7777);
    put(at, W(16, 8), W(8, 4), a);
    put(at, W(24, 12), W(8, 4), b);
}

static int64_t result(uint32_t index)
{
    const uint8_t *at = (uint8_t *)list + index * W(64, 32);
    return wide ? (int64_t)take(at, 8, 8) : (int32_t)take(at, 4, 4);
}

void check_multicall(void)
{
    entry(0, XEN_VERSION, 0, 0);
    entry(1, XEN_VERSION, 99, 0);
    entry(2, 11, 0, 0);
    entry(3, SCHED_OP, 0, 0);
    expect(0, call2(MULTICALL, AT(list), 4), "multicall");
    expect_hex(0x40011, (uint64_t)result(0), "the result of the first");
    expect(-ENOSYS, result(1), "the result of one that fails");
    expect(-ENOSYS, result(2), "the result of an unknown one");
    expect(0, result(3), "the result of the last");
    entry(0, MULTICALL, AT(list), 1);
    entry(1, SCHED_OP, 0, 0);
    expect(0, call2(MULTICALL, AT(list), 2), "multicall in a multicall");
    expect(-EINVAL, result(0), "its result");
    expect(0, result(1), "the one behind it is made");
    expect(0, call2(MULTICALL, AT(list), 0), "multicall of nothing");
    expect(-EFAULT, call2(MULTICALL, BAD, 1), "multicall of a bad list");
    entry(0, MEMORY_OP, 9, BAD);
    expect(0, call2(MULTICALL, AT(list), 1), "multicall of one that faults");
    expect(-EFAULT, result(0), "the fault is its result");
}
