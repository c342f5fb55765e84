/* The rest: unknown hypercall numbers, privilege, console_io, physdev_op, vm_assist. */
#include "conformance.h"

static void check_unknown(void)
{
    static const uint8_t absent[] = {0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 19, 22, 25, 28, 30, 31, 37, 38, 43, 44,
                                     45, 46, 47, 48, 50, 51, 52, 53, 54, 55, 56, 63, 64, 100, 127};
    for (uint32_t i = 0; i < COUNT(absent); i++)
        expect(-ENOSYS, call(absent[i], 0, 0, 0, 0, 0), named_number("hypercall", absent[i]));
    static const struct { const char *name; uint8_t number; int8_t want; } privileged[] = {
        {"platform_op", 7, -EFAULT}, {"mmuext_op", 26, -EPERM}, {"xsm_op", 27, -ENOSYS}, {"sysctl", 35, -EFAULT},
        {"domctl", 36, -EFAULT}, {"argo_op", 39, -ENOSYS}, {"xenpmu_op", 40, -EOPNOTSUPP}, {"dm_op", 41, -E2BIG},
        {"hypfs_op", 42, -EPERM},
    };
    for (uint32_t i = 0; i < COUNT(privileged); i++)
        expect(privileged[i].want, call(privileged[i].number, BAD, BAD, BAD, 0, 0), privileged[i].name);
}

static void check_console_io(void)
{
    char text[2] = "x";
    expect(-EPERM, call3(CONSOLE_IO, 0, 1, AT(text)), "console_io write");
    expect(-EPERM, call3(CONSOLE_IO, 1, 1, AT(text)), "console_io read");
    expect(-EPERM, call3(CONSOLE_IO, 9, 1, AT(text)), "console_io of sub-op 9");
}

static void check_physdev(void)
{
    for (uint32_t op = 0; op <= 33; op++)
        expect(-ENOSYS, call2(PHYSDEV_OP, op, BAD), named_number("physdev_op of sub-op", op));
}

static void check_assists(void)
{
    expect(0, call2(VM_ASSIST, 0, 5), "vm_assist enables 5");
    expect(0, call2(VM_ASSIST, 1, 5), "vm_assist disables 5");
    expect(-EINVAL, call2(VM_ASSIST, 0, 0), "vm_assist enables 0");
    expect(-EINVAL, call2(VM_ASSIST, 0, 4), "vm_assist enables 4");
    expect(-EINVAL, call2(VM_ASSIST, 1, 6), "vm_assist disables 6");
    expect(-EINVAL, call2(VM_ASSIST, 0, 200), "vm_assist enables 200");
    expect(-ENOSYS, call2(VM_ASSIST, 2, 5), "vm_assist of command 2");
}

static void check_user(void)
{
    if (wide) {
        gap("calls from CPL 3", "made in the 32-bit part");
        return;
    }
    expect(-EPERM, (int32_t)call32_user(XEN_VERSION, 0, 0), "xen_version from CPL 3");
    expect(-EPERM, (int32_t)call32_user(SCHED_OP, 0, 0), "sched_op from CPL 3");
    expect(-EPERM, (int32_t)call32_user(11, 0, 0), "an unknown number from CPL 3");
}

void check_misc(void)
{
    check_unknown();
    check_console_io();
    check_physdev();
    check_assists();
    if (wanted("user"))
        check_user();
}
