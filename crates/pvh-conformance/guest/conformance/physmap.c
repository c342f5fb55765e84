/* memory_op: mapping frames at chosen places, and removing them. */
#include "conformance.h"

enum {
    ADD = 7, REMOVE = 15, ADD_BATCH = 23,
    SHARED_INFO = 0, GRANT_TABLE = 1, GMFN = 2, GMFN_RANGE = 3, GMFN_FOREIGN = 4, DEV_MMIO = 5, LATE_EXTENT = 1 << 6,
};

static int64_t add(uint32_t domain, uint32_t space, uint32_t index, uint32_t gfn)
{
    uint32_t op[6] = {0};
    put(op, 0, 2, domain);
    put(op, 4, 4, space);
    put(op, 8, W(8, 4), index);
    put(op, W(16, 12), W(8, 4), gfn);
    return call2(MEMORY_OP, ADD, AT(op));
}

static int64_t remove(uint32_t domain, uint32_t gfn)
{
    uint32_t op[4] = {0};
    put(op, 0, 2, domain);
    put(op, W(8, 4), W(8, 4), gfn);
    return call2(MEMORY_OP, REMOVE, AT(op));
}

static void check_shared_info(void)
{
    uint8_t *home = shared_info;
    uint32_t ram = scratch_frames(1);
    put(frame(ram), 4000, 4, 0x7e577e57);
    expect(0, map_shared_info(ram), "shared info over a frame of RAM");
    expect_true(take(shared_info, 4000, 4) != 0x7e577e57, "what the frame held is gone");
    expect_true(take(vcpu_info[0], 32 + 24, 4) != 0, "the clock of vCPU 0 is in the shared info");
    expect(0, map_shared_info(HOLE_GFN), "shared info in a hole");
    expect_true(take(vcpu_info[0], 32 + 24, 4) != 0, "the clock of vCPU 0 is there");
    put(shared_info, 4000, 4, 0x50505050);
    expect(0, map_shared_info(HOLE_GFN), "shared info where it is");
    expect(0, map_shared_info(AT(home) >> 12), "shared info back over RAM");
    expect_hex(0x50505050, take(shared_info, 4000, 4), "it is the same page");
    put(shared_info, 4000, 4, 0);
    expect(-EFAULT, call2(EVENT_CHANNEL_OP, EVENT_STATUS, HOLE_GFN << 12), "the hole is a hole again");
    expect(-EINVAL, add(DOMID_SELF, SHARED_INFO, 1, ram), "shared info with index 1");
}

static void check_moves(void)
{
    uint32_t from = scratch_frames(2), to = from + 1;
    put(frame(from), 0, 4, 0x12345678);
    expect(0, add(DOMID_SELF, GMFN, from, to), "a frame is moved over another");
    expect_hex(0x12345678, take(frame(to), 0, 4), "it takes its content along");
    expect(-ENOENT, remove(DOMID_SELF, from), "nothing is left where it was");
    expect(-EINVAL, add(DOMID_SELF, GMFN, HOLE_GFN + 4, to), "a hole is moved");
    expect(0, remove(DOMID_SELF, to), "a frame is removed");
    expect(-ENOENT, remove(DOMID_SELF, to), "a frame is removed again");
    expect(-ESRCH, remove(DOMID_NONE, to), "remove_from_physmap of no domain");
    expect(-EACCES, remove(BACKEND, to), "remove_from_physmap of another domain");
    expect(-EFAULT, call2(MEMORY_OP, REMOVE, BAD), "remove_from_physmap with a bad pointer");
}

static void check_errors(void)
{
    uint32_t gfn = scratch_frames(1);
    expect(-ENOSYS, add(DOMID_SELF, GMFN_FOREIGN, gfn, gfn), "space 4, of another domain's frames");
    expect(-EACCES, add(DOMID_SELF, DEV_MMIO, gfn, gfn), "space 5, of devices");
    expect(-EINVAL, add(DOMID_SELF, 6, 0, gfn), "space 6");
    expect(-EINVAL, add(DOMID_SELF, GRANT_TABLE, 100000, gfn), "a grant frame past the last");
    expect(-ESRCH, add(DOMID_NONE, SHARED_INFO, 0, gfn), "add_to_physmap of no domain");
    expect(-EACCES, add(BACKEND, SHARED_INFO, 0, gfn), "add_to_physmap of another domain");
    expect(-EFAULT, call2(MEMORY_OP, ADD, BAD), "add_to_physmap with a bad pointer");
    uint32_t op[6] = {DOMID_SELF};
    put(op, W(16, 12), 4, AT(shared_info) >> 12);
    expect(0, call2(MEMORY_OP, ADD | LATE_EXTENT, AT(op)), "add_to_physmap with a start extent");
}

struct batch {
    uint32_t domain, space, size, indices, gfns, errors;
};

static int64_t add_batch(struct batch b)
{
    uint32_t op[8] = {0};
    put(op, 0, 2, b.domain);
    put(op, 2, 2, b.space);
    put(op, 4, 2, b.size);
    put_pointer(op, 8, b.indices);
    put_pointer(op, W(16, 12), b.gfns);
    put_pointer(op, W(24, 16), b.errors);
    return call2(MEMORY_OP, ADD_BATCH, AT(op));
}

static void check_batch(void)
{
    uint32_t first = scratch_frames(4);
    uint64_t indices[2] = {0}, gfns[2] = {0};
    int32_t errors[2] = {7, 7};
    put(indices, 0, W(8, 4), first);
    put(indices, W(8, 4), W(8, 4), HOLE_GFN + 4);
    put(gfns, 0, W(8, 4), first + 2);
    put(gfns, W(8, 4), W(8, 4), first + 3);
    put(frame(first), 0, 4, 0xabcdef);
    struct batch b = {DOMID_SELF, GMFN, 2, AT(indices), AT(gfns), AT(errors)};
    expect(0, add_batch(b), "a batch of a frame and a hole");
    expect(0, errors[0], "the frame has no error");
    expect(-EINVAL, errors[1], "the hole has one");
    expect_hex(0xabcdef, take(frame(first + 2), 0, 4), "the frame was moved");
    b.size = 0;
    expect(0, add_batch(b), "a batch of nothing");
    b.size = 1;
    b.gfns = BAD;
    expect(-EFAULT, add_batch(b), "a batch from a bad list");
    b.gfns = AT(gfns);
    b.domain = DOMID_NONE;
    expect(-ESRCH, add_batch(b), "a batch for no domain");
    b.domain = BACKEND;
    expect(-EACCES, add_batch(b), "a batch for another domain");
    b.domain = DOMID_SELF;
    b.space = 9;
    expect(0, add_batch(b), "a batch of space 9");
    expect(-EINVAL, errors[0], "space 9 is an error of each entry");
    expect(-EFAULT, call2(MEMORY_OP, ADD_BATCH, BAD), "a batch with a bad pointer");
}

void check_add_to_physmap(void)
{
    check_shared_info();
    check_moves();
    check_errors();
    check_batch();
}
