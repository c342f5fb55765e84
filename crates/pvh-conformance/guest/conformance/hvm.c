/* HVM parameters and hvm_op. */
#include "conformance.h"

enum { SET_PARAM, GET_PARAM, PARAMS = 39, VM86_TSS_SIZED = 37, VM86_TSS_BYTES = 0x2080 };

struct param {
    uint16_t domain, pad;
    uint32_t index;
    uint64_t value;
};

static int64_t hvm_op(uint32_t op, void *argument)
{
    return call2(HVM_OP, op, AT(argument));
}

static int64_t param_of(uint32_t op, uint32_t domain, uint32_t index, uint64_t *value)
{
    struct param argument = {(uint16_t)domain, 0, index, *value};
    int64_t result = hvm_op(op, &argument);
    *value = *(volatile uint64_t *)&argument.value;
    return result;
}

int64_t get_param(uint32_t index, uint64_t *value)
{
    return param_of(GET_PARAM, DOMID_SELF, index, value);
}

int64_t set_param(uint32_t index, uint64_t value)
{
    return param_of(SET_PARAM, DOMID_SELF, index, &value);
}

/* What a guest may do with each parameter: get it, set it to its own value. */
struct rule {
    int8_t get, set;
};

#define BOTH {0, 0}
#define READ_ONLY {0, -EPERM}
#define HIDDEN {-EPERM, -EPERM}
#define GONE {-EINVAL, -EINVAL}

static const struct rule rules[PARAMS] = {
    [0] = BOTH, [1] = READ_ONLY, [2] = BOTH, [3] = HIDDEN, [4] = GONE, [5] = HIDDEN, [6] = HIDDEN, [7] = HIDDEN,
    [8] = HIDDEN, [9] = HIDDEN, [10] = HIDDEN, [11] = HIDDEN, [12] = HIDDEN, [13] = GONE, [14] = HIDDEN, [15] = BOTH,
    [16] = HIDDEN, [17] = READ_ONLY, [18] = BOTH, [19] = {0, -ENODEV}, [20] = GONE, [21] = GONE, [22] = GONE, [23] = GONE,
    [24] = GONE, [25] = GONE, [26] = GONE, [27] = HIDDEN, [28] = HIDDEN, [29] = HIDDEN, [30] = GONE, [31] = HIDDEN,
    [32] = HIDDEN, [33] = HIDDEN, [34] = BOTH, [35] = READ_ONLY, [36] = BOTH, [37] = BOTH, [38] = HIDDEN,
};

void check_params(void)
{
    shared_wide = wide;
    uint64_t value;
    for (uint32_t index = 0; index < PARAMS; index++) {
        value = 0;
        expect(rules[index].get, get_param(index, &value), named_number("get param", index));
        if (index == VM86_TSS_SIZED)
            value = (uint64_t)VM86_TSS_BYTES << 32 | scratch_frames(3) << 12;
        expect(rules[index].set, set_param(index, value), named_number("set param", index));
    }
    value = 0;
    expect(-EINVAL, get_param(PARAMS, &value), "get a param past the last");
    expect(-EINVAL, set_param(PARAMS, 0), "set a param past the last");
    expect(-EINVAL, set_param(36, 5), "set X87_FIP_WIDTH to 5");
    expect(0, set_param(36, 0), "set X87_FIP_WIDTH to 0");
    expect(-ENODEV, set_param(19, 2), "set ACPI_IOPORTS_LOCATION to 2");
    expect(0, set_param(34, 0x123456789ab), "set VM_GENERATION_ID_ADDR");
    value = 0;
    get_param(34, &value);
    expect_hex(0x123456789ab, value, "get VM_GENERATION_ID_ADDR");
    set_param(34, 0);
    for (uint32_t op = SET_PARAM; op <= GET_PARAM; op++) {
        const char *which = op == SET_PARAM ? "set param" : "get param";
        value = 0;
        expect(-ESRCH, param_of(op, DOMID_NONE, 34, &value), named(which, "of no domain"));
        expect(-EINVAL, param_of(op, BACKEND, 34, &value), named(which, "of a PV domain"));
        expect(-EFAULT, hvm_op(op, (void *)BAD), named(which, "with a bad pointer"));
    }
}

static void check_upcall_vector_errors(void)
{
    struct { uint32_t vcpu; uint8_t vector, pad[3]; } op = {3, 0x0f, {0}};
    expect(-EINVAL, hvm_op(23, &op), "upcall vector 0x0f");
    op.vector = 0;
    expect(-EINVAL, hvm_op(23, &op), "upcall vector 0");
    op.vector = VECTOR_VCPU;
    expect(0, hvm_op(23, &op), "upcall vector of a vCPU that is down");
    op.vcpu = NO_VCPU;
    expect(-ENOENT, hvm_op(23, &op), "upcall vector of no vCPU");
    expect(-EFAULT, hvm_op(23, (void *)BAD), "upcall vector with a bad pointer");
}

static void check_queries(void)
{
    uint64_t time = 0;
    expect(0, hvm_op(10, &time), "get_time");
    uint64_t first = *(volatile uint64_t *)&time;
    hvm_op(10, &time);
    expect_true(first != 0 && *(volatile uint64_t *)&time >= first, "time does not go back");
    expect(-EFAULT, hvm_op(10, (void *)BAD), "get_time with a bad pointer");
    struct { uint16_t domain, type, pad[2]; uint64_t pfn; } type = {DOMID_SELF, 9, {0}, SCRATCH_GFN - 1};
    expect(0, hvm_op(15, &type), "get_mem_type of RAM");
    expect(0, *(volatile uint16_t *)&type.type, "RAM is of type 0");
    type.pfn = HOLE_GFN + 4;
    expect(0, hvm_op(15, &type), "get_mem_type of a hole");
    expect(2, *(volatile uint16_t *)&type.type, "a hole is of type 2");
    type.domain = DOMID_NONE;
    expect(-ESRCH, hvm_op(15, &type), "get_mem_type of no domain");
    type.domain = BACKEND;
    expect(-EPERM, hvm_op(15, &type), "get_mem_type of another domain");
    expect(-EFAULT, hvm_op(15, (void *)BAD), "get_mem_type with a bad pointer");
}

static void check_trace(void)
{
    struct { uint16_t event, extra_bytes; uint8_t extra[28]; } trace = {1, 0, {0}};
    expect(0, hvm_op(11, &trace), "xentrace");
    trace.extra_bytes = 32;
    expect(-EINVAL, hvm_op(11, &trace), "xentrace of 32 more bytes");
    trace.extra_bytes = 3;
    expect(0, hvm_op(11, &trace), "xentrace of 3 more bytes");
    trace.extra_bytes = 0;
    trace.event = 0xf000;
    expect(-EINVAL, hvm_op(11, &trace), "xentrace of an event with class bits");
    expect(-EFAULT, hvm_op(11, (void *)BAD), "xentrace with a bad pointer");
}

void check_hvm_op(void)
{
    static const uint8_t gone[] = {2, 3, 4, 6, 7, 8, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 26, 99};
    for (uint32_t i = 0; i < COUNT(gone); i++)
        expect(-ENOSYS, hvm_op(gone[i], 0), named_number("sub-op", gone[i]));
    uint32_t word = 0;
    expect(0, hvm_op(5, 0), "flush_tlbs");
    expect(-EINVAL, hvm_op(5, &word), "flush_tlbs with a pointer");
    struct { uint16_t domain, pad[3]; uint64_t gpa; } dying = {DOMID_SELF, {0}, 0x1000};
    expect(-EINVAL, hvm_op(9, &dying), "pagetable_dying");
    dying.domain = BACKEND;
    expect(-EOPNOTSUPP, hvm_op(9, &dying), "pagetable_dying of another domain");
    expect(-EFAULT, hvm_op(9, (void *)BAD), "pagetable_dying with a bad pointer");
    check_queries();
    check_trace();
    check_upcall_vector_errors();
    expect(0, hvm_op(24, 0), "guest_request_vm_event");
    expect(-EINVAL, hvm_op(24, &word), "guest_request_vm_event with a pointer");
    uint32_t altp2m[20] = {0};
    expect(-EOPNOTSUPP, hvm_op(25, altp2m), "altp2m");
    expect(-EOPNOTSUPP, hvm_op(25, (void *)BAD), "altp2m with a bad pointer");
}
