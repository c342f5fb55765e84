/* The clocks in the shared info. */
#include "conformance.h"

enum { WALLCLOCK_NATIVE = 3072, WALLCLOCK_COMPAT = 2304, HIGH_NATIVE = 3084, HIGH_COMPAT = 2340, SECOND = 1000000000,
       YEAR_2020 = 1577836800 };

static uint64_t tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* (a * b) >> 32 for a product of 96 bits. */
static uint64_t scale(uint64_t a, uint32_t b)
{
    return (a >> 32) * b + ((a & 0xffffffff) * b >> 32);
}

/* System time from the vCPU's own clock. */
static uint64_t read_clock(const uint8_t *time)
{
    for (;;) {
        uint32_t version = (uint32_t)take(time, 0, 4);
        uint64_t delta = tsc() - take(time, 8, 8);
        int8_t shift = (int8_t)take(time, 28, 1);
        delta = shift < 0 ? delta >> -shift : delta << shift;
        uint64_t result = take(time, 16, 8) + scale(delta, (uint32_t)take(time, 24, 4));
        if (version % 2 == 0 && (uint32_t)take(time, 0, 4) == version)
            return result;
    }
}

static void check_clock_page(void)
{
    const uint8_t *time = vcpu_info[0] + 32;
    expect(0, (int64_t)take(time, 0, 4) % 2, "the version is even");
    expect_true(take(time, 0, 4) != 0, "and not 0");
    expect_true(take(time, 24, 4) != 0, "the multiplier is not 0");
    expect(0, (int64_t)take(time, 4, 4), "the padding is 0");
    uint64_t before = now(), clock = read_clock(time), after = now();
    expect_true(clock + 1000000 >= before && clock <= after + 1000000, "it agrees with HVMOP_get_time");
    bool steady = true;
    uint64_t last = read_clock(time);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t next = read_clock(time);
        steady = steady && next >= last;
        last = next;
    }
    expect_true(steady, "it does not go back");
    uint64_t ticks = tsc();
    wait_ms(20);
    ticks = tsc() - ticks;
    uint64_t ns = read_clock(time) - last;
    expect_true(ns >= 20000000 && ns < 2000000000, "it moves as time does");
    expect_true(ticks > 0, "the TSC moves");
}

static void check_wallclock(void)
{
    const uint8_t *wallclock = shared_info + (shared_wide ? WALLCLOCK_NATIVE : WALLCLOCK_COMPAT);
    expect(0, (int64_t)take(wallclock, 0, 4) % 2, "the wall clock's version is even");
    expect_true(take(wallclock, 0, 4) != 0, "and not 0");
    expect_true(take(wallclock, 4, 4) > YEAR_2020, "it is later than 2020");
    expect_true(take(wallclock, 8, 4) < SECOND, "its nanoseconds are less than a second");
    expect_hex(0, take(shared_info, shared_wide ? HIGH_NATIVE : HIGH_COMPAT, 4), "its upper seconds are 0");
}

void check_clock(void)
{
    check_clock_page();
    check_wallclock();
}
