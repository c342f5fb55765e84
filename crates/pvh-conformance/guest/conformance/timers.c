/* set_timer_op and the timers of vcpu_op. */
#include "conformance.h"

enum { SET_PERIODIC = 6, STOP_PERIODIC, SET_SINGLESHOT, STOP_SINGLESHOT, IN_THE_FUTURE = 1, MS = 1000000 };

static uint32_t port;

static bool fired(void)
{
    return is_pending(port);
}

static void clear(void)
{
    clear_pending(port);
    settle();
}

static int64_t set_timer(uint64_t at)
{
    return wide ? call1(SET_TIMER_OP, at) : call2(SET_TIMER_OP, (uint32_t)at, at >> 32);
}

static int64_t set_singleshot(uint32_t vcpu, uint64_t at, uint32_t flags)
{
    uint32_t op[4] = {0};
    put(op, 0, 8, at);
    put(op, 8, 4, flags);
    return call3(VCPU_OP, SET_SINGLESHOT, vcpu, AT(op));
}

static int64_t set_periodic(uint32_t vcpu, uint64_t period)
{
    return call3(VCPU_OP, SET_PERIODIC, vcpu, AT(&period));
}

static void check_set_timer(void)
{
    expect(0, set_timer(0), "set_timer_op to never");
    uint64_t begin = now();
    expect(0, set_timer(begin + 10 * MS), "set_timer_op in 10 ms");
    expect_true(wait_until(fired, 3000), "the event comes");
    expect_true(now() - begin + SLOP >= 10 * MS, "not too early");
    clear();
    expect(0, set_timer(1), "set_timer_op to the past");
    expect_true(wait_until(fired, 1000), "the event comes at once");
    clear();
    set_timer(now() + 30 * MS);
    expect(0, set_timer(0), "set_timer_op is cancelled");
    wait_ms(60);
    expect_true(!fired(), "no event comes");
    expect(0, set_timer(now() + (1ull << 51)), "set_timer_op too far ahead");
    expect_true(wait_until(fired, 3000), "the event comes in 100 ms");
    clear();
    expect(0, set_timer(1ull << 63), "set_timer_op to a negative time");
    expect_true(wait_until(fired, 3000), "the event comes");
    clear();
}

static void check_singleshot(void)
{
    uint64_t begin = now();
    expect(0, set_singleshot(0, begin + 10 * MS, 0), "set_singleshot_timer in 10 ms");
    expect_true(wait_until(fired, 3000), "the event comes");
    expect_true(now() - begin + SLOP >= 10 * MS, "not too early");
    clear();
    expect(0, set_singleshot(0, 1, 0), "set_singleshot_timer to the past");
    expect_true(wait_until(fired, 1000), "the event comes at once");
    clear();
    expect(0, set_singleshot(0, 1, IN_THE_FUTURE), "set_singleshot_timer to the past with VCPU_SSHOTTMR_future");
    expect_true(wait_until(fired, 1000), "the event comes all the same");
    clear();
    expect(0, set_singleshot(0, now() + 5000ull * MS, IN_THE_FUTURE), "set_singleshot_timer in the future");
    expect(0, call3(VCPU_OP, STOP_SINGLESHOT, 0, 0), "stop_singleshot_timer");
    expect(0, call3(VCPU_OP, STOP_SINGLESHOT, 0, 0), "stop_singleshot_timer again");
    set_timer(now() + 30 * MS);
    expect(0, call3(VCPU_OP, STOP_SINGLESHOT, 0, 0), "stop_singleshot_timer stops set_timer_op's");
    wait_ms(60);
    expect_true(!fired(), "no event comes then");
    expect(-EINVAL, set_singleshot(1, now(), 0), "set_singleshot_timer of another vCPU");
    expect(-EINVAL, call3(VCPU_OP, STOP_SINGLESHOT, 1, 0), "stop_singleshot_timer of another vCPU");
    expect(-ENOENT, set_singleshot(NO_VCPU, now(), 0), "set_singleshot_timer of no vCPU");
    expect(-EFAULT, call3(VCPU_OP, SET_SINGLESHOT, 0, BAD), "set_singleshot_timer with a bad pointer");
}

static void check_periodic(void)
{
    uint64_t begin = now();
    expect(0, set_periodic(0, 10 * MS), "set_periodic_timer of 10 ms");
    for (uint32_t i = 0; i < 3; i++) {
        expect_true(wait_until(fired, 3000), named_number("an event comes,", i + 1));
        clear();
    }
    expect_true(now() - begin + SLOP >= 20 * MS, "not too early");
    expect(0, call3(VCPU_OP, STOP_PERIODIC, 0, 0), "stop_periodic_timer");
    wait_ms(5);
    clear();
    wait_ms(40);
    expect_true(!fired(), "no more events come");
    expect(0, call3(VCPU_OP, STOP_PERIODIC, 0, 0), "stop_periodic_timer again");
    expect(-EINVAL, set_periodic(0, MS - 1), "set_periodic_timer of less than 1 ms");
    expect(0, set_periodic(0, MS), "set_periodic_timer of 1 ms");
    expect(0, call3(VCPU_OP, STOP_PERIODIC, 0, 0), "stop_periodic_timer of that");
    expect(-EINVAL, set_periodic(0, 1ull << 63), "set_periodic_timer of a negative period");
    expect(0, set_periodic(1, 1000ull * MS), "set_periodic_timer of another vCPU");
    expect(0, call3(VCPU_OP, STOP_PERIODIC, 1, 0), "stop_periodic_timer of another vCPU");
    expect(-ENOENT, set_periodic(NO_VCPU, 10 * MS), "set_periodic_timer of no vCPU");
    expect(-ENOENT, call3(VCPU_OP, STOP_PERIODIC, NO_VCPU, 0), "stop_periodic_timer of no vCPU");
    expect(-EFAULT, call3(VCPU_OP, SET_PERIODIC, 0, BAD), "set_periodic_timer with a bad pointer");
    clear();
}

void check_timers(void)
{
    call3(VCPU_OP, STOP_PERIODIC, 0, 0);
    port = bind_timer();
    clear();
    check_set_timer();
    check_singleshot();
    check_periodic();
    event_port_op(EVENT_CLOSE, port);
}
