/* vcpu_op: registrations for a vCPU, and reports about it. */
#include "conformance.h"

enum { INITIALISE, UP, DOWN, IS_UP, GET_RUNSTATE, RUNSTATE_AREA, REGISTER_INFO = 10, SEND_NMI = 11, PHYSID = 12,
       TIME_AREA = 13, RUNNING = 0, OFFLINE = 3, ENABLE = 0, DISABLE = 1, RUNSTATE_UPDATE_FLAG = 5 };

static int64_t vcpu_op(uint32_t op, uint32_t vcpu, void *argument)
{
    return call3(VCPU_OP, op, vcpu, AT(argument));
}

static int64_t register_info(uint32_t vcpu, uint32_t gfn, uint32_t offset)
{
    uint32_t op[4] = {gfn, 0, offset, 0};
    return vcpu_op(REGISTER_INFO, vcpu, op);
}

static void check_info(void)
{
    uint32_t gfn = scratch_frames(1), vcpu = wide ? 2 : 1;
    uint8_t *info = (uint8_t *)frame(gfn) + 128;
    memset(frame(gfn), 0, PAGE);
    expect(-EFAULT, vcpu_op(REGISTER_INFO, vcpu, (void *)BAD), "register_vcpu_info with a bad pointer");
    expect(-ENOENT, register_info(NO_VCPU, gfn, 0), "register_vcpu_info of no vCPU");
    expect(-EINVAL, register_info(vcpu, HOLE_GFN + 4, 0), "register_vcpu_info in a hole");
    expect(-ENXIO, register_info(vcpu, gfn, 4040), "register_vcpu_info across a page");
    expect(-ENXIO, register_info(vcpu, gfn, 2), "register_vcpu_info that is not aligned");
    expect(-ENXIO, register_info(vcpu, gfn, 4096), "register_vcpu_info at offset 4096");
    expect(0, register_info(vcpu, gfn, 128), "register_vcpu_info of a vCPU that is down");
    vcpu_info[vcpu] = info;
    expect(1, info[0], "its upcall flag is set");
    uint32_t width = shared_wide ? 8 : 4;
    expect_hex(shared_wide ? ~0ull : ~0u, take(info, width, width), "its selector is all ones");
    expect(-EINVAL, register_info(vcpu, gfn, 256), "register_vcpu_info again");
    uint32_t port = bind_ipi(vcpu);
    put(info, 0, 1, 0);
    put(info, width, width, 0);
    clear_pending(port);
    event_port_op(EVENT_SEND, port);
    expect(1, info[0], "an event sets the flag there");
    clear_pending(port);
    event_port_op(EVENT_CLOSE, port);
    if (wide)
        return;
    info += 256;
    expect(0, register_info(0, gfn, 384), "register_vcpu_info of the caller");
    vcpu_info[0] = info;
    expect(1, info[0], "its upcall flag is set");
    expect_true(take(info, 32 + 24, 4) != 0, "its clock is there");
    settle();
}

static void check_runstate(void)
{
    uint64_t state[8] = {0};
    expect(0, vcpu_op(GET_RUNSTATE, 0, state), "get_runstate_info of the caller");
    expect(RUNNING, (int64_t)take(state, 0, 4), "it runs");
    uint64_t ran = take(state, W(16, 12), 8);
    expect_true(ran > 0, "it has run");
    wait_ms(5);
    vcpu_op(GET_RUNSTATE, 0, state);
    expect_true(take(state, W(16, 12), 8) > ran, "it has run longer");
    expect(0, vcpu_op(GET_RUNSTATE, 3, state), "get_runstate_info of a vCPU that is down");
    expect(OFFLINE, (int64_t)take(state, 0, 4), "it is offline");
    if (!wide)
        expect_true(take(state, W(16, 12), 8) == 0, "it has never run");
    expect(-EFAULT, vcpu_op(GET_RUNSTATE, 0, (void *)BAD), "get_runstate_info with a bad pointer");
    expect(-ENOENT, vcpu_op(GET_RUNSTATE, NO_VCPU, state), "get_runstate_info of no vCPU");
}

static uint64_t area[8], time_area[4];

static void check_areas(void)
{
    uint64_t pointer = AT(area);
    memset(area, 0xee, sizeof area);
    expect(0, vcpu_op(RUNSTATE_AREA, 0, &pointer), "register_runstate_memory_area");
    wait_ms(2);
    expect(RUNNING, (int64_t)take(area, 0, 4), "it says that the vCPU runs");
    expect(0, call2(VM_ASSIST, ENABLE, RUNSTATE_UPDATE_FLAG), "vm_assist enables the update flag");
    wait_ms(5);
    expect(0, (int64_t)(take(area, W(8, 4), 8) >> 63), "the update flag is not left set");
    expect(0, call2(VM_ASSIST, DISABLE, RUNSTATE_UPDATE_FLAG), "vm_assist disables it");
    expect(-EFAULT, vcpu_op(RUNSTATE_AREA, 0, (void *)BAD), "register_runstate_memory_area with a bad pointer");
    expect(-ENOENT, vcpu_op(RUNSTATE_AREA, NO_VCPU, &pointer), "register_runstate_memory_area of no vCPU");
    pointer = BAD;
    expect(0, vcpu_op(RUNSTATE_AREA, 3, &pointer), "register_runstate_memory_area at a bad address");
    pointer = 0;
    vcpu_op(RUNSTATE_AREA, 0, &pointer);
    vcpu_op(RUNSTATE_AREA, 3, &pointer);
    pointer = AT(time_area);
    memset(time_area, 0, sizeof time_area);
    expect(0, vcpu_op(TIME_AREA, 0, &pointer), "register_vcpu_time_memory_area");
    expect_true(take(time_area, 24, 4) != 0, "the clock is there");
    expect(-EFAULT, vcpu_op(TIME_AREA, 0, (void *)BAD), "register_vcpu_time_memory_area with a bad pointer");
    expect(-ENOENT, vcpu_op(TIME_AREA, NO_VCPU, &pointer), "register_vcpu_time_memory_area of no vCPU");
    pointer = 0;
    vcpu_op(TIME_AREA, 0, &pointer);
}

static void check_others(void)
{
    uint64_t word = 0;
    expect(1, vcpu_op(IS_UP, 0, 0), "is_up of the caller");
    expect(0, vcpu_op(IS_UP, 3, 0), "is_up of a vCPU that was never started");
    expect(-ENOENT, vcpu_op(IS_UP, 4, 0), "is_up past the last vCPU");
    expect(-ENOENT, vcpu_op(IS_UP, NO_VCPU, 0), "is_up of no vCPU");
    expect(-EINVAL, vcpu_op(UP, 3, 0), "up of a vCPU that was never initialised");
    expect(-ENOENT, vcpu_op(UP, NO_VCPU, 0), "up of no vCPU");
    expect(0, vcpu_op(UP, 0, 0), "up of the caller");
    expect(0, vcpu_op(DOWN, 3, 0), "down of a vCPU that is down");
    expect(-ENOENT, vcpu_op(DOWN, NO_VCPU, 0), "down of no vCPU");
    expect(-EINVAL, vcpu_op(SEND_NMI, 0, &word), "send_nmi with a pointer");
    expect(-ENOENT, vcpu_op(SEND_NMI, NO_VCPU, 0), "send_nmi of no vCPU");
    if (!wide) {
        nmis = 0;
        expect(0, vcpu_op(SEND_NMI, 0, 0), "send_nmi to the caller");
        breathe();
        expect(1, nmis, "the NMI comes");
    }
    expect(-EINVAL, vcpu_op(PHYSID, 0, &word), "get_physid");
    expect(-ENOENT, vcpu_op(PHYSID, NO_VCPU, &word), "get_physid of no vCPU");
    for (uint32_t op = 14; op <= 17; op++)
        expect(-ENOSYS, vcpu_op(op, 0, (void *)BAD), named_number("a sub-op of later versions:", op));
    expect(-ENOSYS, vcpu_op(99, 0, 0), "an unknown sub-op");
    expect(-ENOENT, vcpu_op(99, NO_VCPU, 0), "an unknown sub-op of no vCPU");
}

void check_vcpu(void)
{
    check_others();
    check_runstate();
    check_areas();
    check_info();
}
