/* sched_op: waiting, watchdogs, forbidden operations. The shutdown itself comes at the very end. */
#include "conformance.h"

enum { YIELD, BLOCK, SHUTDOWN, POLL, REMOTE_SHUTDOWN, SHUTDOWN_CODE, WATCHDOG, PIN_OVERRIDE, MS = 1000000,
       POLLS = 10, SET_PERIODIC = 6, STOP_PERIODIC = 7 };

static int64_t sched_op(uint32_t op, void *argument)
{
    return call2(SCHED_OP, op, AT(argument));
}

static int64_t poll(uint32_t ports, uint32_t count, uint64_t timeout)
{
    uint32_t op[6] = {0};
    put_pointer(op, 0, ports);
    put(op, W(8, 4), 4, count);
    put(op, W(16, 8), 8, timeout);
    return sched_op(POLL, op);
}

static void check_poll(void)
{
    uint32_t port = bind_ipi(0), ports[2] = {port, 0};
    set_mask(port, true);
    clear_pending(port);
    settle();
    uint64_t begin = now();
    /* Any wake-up ends a poll, so a few polls may be too short. */
    int64_t result = 0;
    for (uint32_t i = 0; result == 0 && i < POLLS && now() + SLOP < begin + 20 * MS; i++)
        result = poll(AT(ports), 1, begin + 20 * MS);
    expect(0, result, "poll of an idle port with a timeout");
    uint64_t took = now() - begin;
    expect_true(took + SLOP >= 20 * MS, "it lasts until the timeout");
    expect_true(took < 2000 * MS, "and not much longer");
    event_port_op(EVENT_SEND, port);
    begin = now();
    expect(0, poll(AT(ports), 1, begin + 5000ull * MS), "poll of a pending port");
    expect_true(now() - begin < 3000ull * MS, "it returns at once");
    clear_pending(port);
    begin = now();
    expect(0, poll(AT(ports), 1, 1), "poll with a timeout that is past");
    expect(0, poll(0, 0, now() + 5 * MS), "poll of no port with a timeout");
    ports[0] = 0x20000;
    expect(-EINVAL, poll(AT(ports), 1, 1), "poll of no such port");
    expect(-EINVAL, poll(AT(ports), 129, 1), "poll of 129 ports");
    expect(-EFAULT, poll(BAD, 1, 1), "poll of a bad list");
    expect(-EFAULT, sched_op(POLL, (void *)BAD), "poll with a bad pointer");
    /* A timer event ends a poll of its port, even if the port is masked. */
    uint32_t timer = bind_timer();
    set_mask(timer, true);
    settle();
    begin = now();
    uint64_t at = begin + 10 * MS;
    call(SET_TIMER_OP, wide ? at : (uint32_t)at, at >> 32, 0, 0, 0);
    ports[0] = timer;
    expect(0, poll(AT(ports), 1, begin + 5000ull * MS), "poll of the timer's port");
    took = now() - begin;
    expect_true(took + SLOP >= 10 * MS && took < 3000ull * MS, "the timer wakes it");
    expect_true(is_pending(timer), "its port pends");
    clear_pending(timer);
    set_mask(timer, false);
    event_port_op(EVENT_CLOSE, timer);
    set_mask(port, false);
    event_port_op(EVENT_CLOSE, port);
    settle();
}

static void set_periodic(uint64_t period)
{
    call3(VCPU_OP, SET_PERIODIC, 0, AT(&period));
}

/* The event may come before the vCPU sleeps. A periodic timer then ends the sleep. */
static void check_block(void)
{
    if (wide) {
        gap("block", "interrupts are off in the 64-bit part");
        return;
    }
    use_upcalls();
    uint32_t timer = bind_timer();
    set_mask(timer, false);
    set_periodic(500 * MS);
    wait_ms(5);
    clear_pending(timer);
    use_upcalls();
    put(vcpu_info[0], 1, 1, 1);
    handled = 0;
    handled_port = timer;
    uint64_t begin = now(), at = begin + 50 * MS;
    call2(SET_TIMER_OP, (uint32_t)at, at >> 32);
    int32_t result;
    do
        result = (int32_t)call_with_interrupts(SCHED_OP, BLOCK, 0);
    while (result == 0 && handled == 0 && now() < begin + 5000ull * MS);
    expect(0, result, "block");
    expect_true(handled > 0, "the timer's event interrupts and wakes it");
    expect_true(now() - begin + SLOP >= 50 * MS, "it lasts until then");
    expect(0, vcpu_info[0][1], "block clears the upcall mask");
    handled_port = 0;
    call3(VCPU_OP, STOP_PERIODIC, 0, 0);
    clear_pending(timer);
    event_port_op(EVENT_CLOSE, timer);
    settle();
}

static int64_t watchdog(uint32_t id, uint32_t seconds)
{
    uint32_t op[2] = {id, seconds};
    return sched_op(WATCHDOG, op);
}

static void check_watchdogs(void)
{
    expect(1, watchdog(0, 600), "the first watchdog");
    expect(2, watchdog(0, 600), "the second watchdog");
    /* Xen 4.17 zero-extends this error. */
    expect(W((int64_t)0xffffffe4, -ENOSPC), watchdog(0, 600), "a third watchdog");
    expect(0, watchdog(1, 600), "the first is set again");
    expect(-EINVAL, watchdog(3, 600), "watchdog 3");
    expect(0, watchdog(1, 0), "the first is stopped");
    expect(0, watchdog(2, 0), "the second is stopped");
    expect(-EINVAL, watchdog(1, 600), "a watchdog that was stopped is set");
    expect(-EFAULT, sched_op(WATCHDOG, (void *)BAD), "watchdog with a bad pointer");
}

void check_sched(void)
{
    expect(0, sched_op(YIELD, 0), "yield");
    check_block();
    check_poll();
    check_watchdogs();
    uint32_t op[2] = {DOMID_NONE, 0};
    expect(-ESRCH, sched_op(REMOTE_SHUTDOWN, op), "remote_shutdown of no domain");
    op[0] = BACKEND;
    expect(-EPERM, sched_op(REMOTE_SHUTDOWN, op), "remote_shutdown of another domain");
    expect(-EFAULT, sched_op(REMOTE_SHUTDOWN, (void *)BAD), "remote_shutdown with a bad pointer");
    op[0] = 0;
    expect(0, sched_op(SHUTDOWN_CODE, op), "shutdown_code");
    expect(-EFAULT, sched_op(SHUTDOWN_CODE, (void *)BAD), "shutdown_code with a bad pointer");
    expect(-EFAULT, sched_op(SHUTDOWN, (void *)BAD), "shutdown with a bad pointer");
    expect(-EPERM, sched_op(PIN_OVERRIDE, op), "pin_override");
    expect(-EPERM, sched_op(PIN_OVERRIDE, (void *)BAD), "pin_override with a bad pointer");
    expect(-ENOSYS, sched_op(8, 0), "sub-op 8");
    expect(-ENOSYS, sched_op(99, 0), "sub-op 99");
}
