/* Grant tables, version 1. */
#include "conformance.h"

enum {
    MAP, UNMAP, SETUP_TABLE, DUMP, TRANSFER, COPY, QUERY_SIZE, UNMAP_AND_REPLACE, SET_VERSION, GET_STATUS, GET_VERSION,
    SWAP, CACHE_FLUSH, HOST_MAP = 2, PERMIT_ACCESS = 1, ADD_TO_PHYSMAP = 7, SPACE_GRANT_TABLE = 1, REF = 8,
    BAD_DOMAIN = -2, BAD_REF = -3, BAD_HANDLE = -4, PERMISSION = -8, GENERAL = -1,
};

static uint8_t *table;
static uint32_t own_id;

static int64_t grant_op(uint32_t op, void *argument, uint32_t count)
{
    return call3(GRANT_TABLE_OP, op, AT(argument), count);
}

static void check_queries(void)
{
    uint32_t query[4] = {DOMID_SELF, 0xee, 0xee, 0xee};
    expect(0, grant_op(QUERY_SIZE, query, 1), "query_size");
    expect(0, (int16_t)take(query, 12, 2), "its status");
    expect_true(take(query, 4, 4) <= 64, "the frames there are");
    expect(64, (int64_t)take(query, 8, 4), "the frames there may be");
    expect(-EINVAL, grant_op(QUERY_SIZE, query, 2), "query_size of two");
    expect(-EFAULT, grant_op(QUERY_SIZE, (void *)BAD, 1), "query_size with a bad pointer");
    put(query, 0, 2, DOMID_NONE);
    expect(0, grant_op(QUERY_SIZE, query, 1), "query_size of no domain");
    expect(BAD_DOMAIN, (int16_t)take(query, 12, 2), "its status is bad domain");
    put(query, 0, 2, BACKEND);
    expect(0, grant_op(QUERY_SIZE, query, 1), "query_size of another domain");
    expect(PERMISSION, (int16_t)take(query, 12, 2), "its status is permission denied");
    uint32_t version[2] = {DOMID_SELF, 0xee};
    expect(0, grant_op(GET_VERSION, version, 1), "get_version");
    expect(1, (int64_t)take(version, 4, 4), "it is 1");
    expect(-EFAULT, grant_op(GET_VERSION, (void *)BAD, 1), "get_version with a bad pointer");
    put(version, 0, 2, DOMID_NONE);
    expect(-ESRCH, grant_op(GET_VERSION, version, 1), "get_version of no domain");
    uint32_t wanted_version = 3;
    expect(-EINVAL, grant_op(SET_VERSION, &wanted_version, 1), "set_version 3");
    wanted_version = 1;
    expect(0, grant_op(SET_VERSION, &wanted_version, 1), "set_version 1");
    expect(-EFAULT, grant_op(SET_VERSION, (void *)BAD, 1), "set_version with a bad pointer");
}

static void check_setup(void)
{
    uint32_t setup[6] = {0};
    uint64_t frames[2] = {0};
    put(setup, 0, 2, DOMID_SELF);
    put(setup, 4, 4, 1);
    put_pointer(setup, W(16, 12), AT(frames));
    expect(0, grant_op(SETUP_TABLE, setup, 1), "setup_table of one frame");
    expect(0, (int16_t)take(setup, 8, 2), "its status");
    put(setup, 4, 4, 65);
    expect(0, grant_op(SETUP_TABLE, setup, 1), "setup_table of 65 frames");
    expect(GENERAL, (int16_t)take(setup, 8, 2), "its status is an error");
    expect(-EINVAL, grant_op(SETUP_TABLE, setup, 2), "setup_table of two");
    expect(-EFAULT, grant_op(SETUP_TABLE, (void *)BAD, 1), "setup_table with a bad pointer");
    put(setup, 4, 4, 1);
    put(setup, 0, 2, DOMID_NONE);
    expect(0, grant_op(SETUP_TABLE, setup, 1), "setup_table of no domain");
    expect(BAD_DOMAIN, (int16_t)take(setup, 8, 2), "its status is bad domain");
    uint32_t gfn = scratch_frames(1), add[6] = {0};
    put(add, 0, 2, DOMID_SELF);
    put(add, 4, 4, SPACE_GRANT_TABLE);
    put(add, W(16, 12), W(8, 4), gfn);
    expect(0, call2(MEMORY_OP, ADD_TO_PHYSMAP, AT(add)), "the first frame is mapped over RAM");
    table = frame(gfn);
    expect(PERMIT_ACCESS, (int64_t)take(table, 0, 2) & 3, "reference 0 is the console's");
    expect(PERMIT_ACCESS, (int64_t)take(table, 8, 2) & 3, "reference 1 is the store's");
}

static void grant(uint32_t ref, uint32_t domain, uint32_t gfn)
{
    put(table, 8 * ref, 2, 0);
    put(table, 8 * ref + 2, 2, domain);
    put(table, 8 * ref + 4, 4, gfn);
    put(table, 8 * ref, 2, PERMIT_ACCESS);
}

static int16_t map(uint32_t domain, uint32_t ref, uint32_t gfn, uint32_t *handle)
{
    uint64_t op[4] = {(uint64_t)gfn << 12};
    put(op, 8, 4, HOST_MAP);
    put(op, 12, 4, ref);
    put(op, 16, 2, domain);
    put(op, 18, 2, 0x7777);
    expect(0, grant_op(MAP, op, 1), "map_grant_ref");
    *handle = (uint32_t)take(op, 20, 4);
    return (int16_t)take(op, 18, 2);
}

static int16_t unmap(uint32_t handle, uint32_t gfn)
{
    uint64_t op[3] = {(uint64_t)gfn << 12};
    put(op, 16, 4, handle);
    put(op, 20, 2, 0x7777);
    expect(0, grant_op(UNMAP, op, 1), "unmap_grant_ref");
    return (int16_t)take(op, 20, 2);
}

static void check_maps(void)
{
    uint32_t handle;
    expect(BAD_DOMAIN, map(DOMID_NONE, REF, HOLE_GFN + 16, &handle), "map of no domain");
    expect(BAD_REF, map(own_id, 100000, HOLE_GFN + 16, &handle), "map of a reference past the last");
    expect(0, map(own_id, REF, HOLE_GFN + 16, &handle), "map of one's own frame, in a hole");
    expect_hex(0xfeedf00d, take(frame(HOLE_GFN + 16), 0, 4), "map shows the same frame");
    expect_hex(0x19, take(table, 8 * REF, 2), "map says in the entry that it is read and written");
    expect(0, unmap(handle, HOLE_GFN + 16), "unmap of that");
    expect_hex(1, take(table, 8 * REF, 2), "unmap says in the entry that it is not in use");
    expect(BAD_HANDLE, unmap(handle, HOLE_GFN + 16), "unmap of that again");
    expect(-EFAULT, grant_op(MAP, (void *)BAD, 1), "map_grant_ref with a bad pointer");
    expect(-EFAULT, grant_op(UNMAP, (void *)BAD, 1), "unmap_grant_ref with a bad pointer");
    expect(0, grant_op(MAP, 0, 0), "map_grant_ref of nothing");
}

/* One side of a copy: a reference or a frame. */
static void put_side(void *op, uint32_t offset, uint32_t where, uint32_t domain)
{
    put(op, offset, W(8, 4), where);
    put(op, offset + W(8, 4), 2, domain);
    put(op, offset + W(8, 4) + 2, 2, 0);
}

static int16_t copy(uint32_t ref, uint32_t domain, uint32_t to, uint32_t bytes)
{
    uint64_t op[5] = {0};
    put_side(op, 0, ref, domain);
    put_side(op, W(16, 8), to, DOMID_SELF);
    put(op, W(32, 16), 2, bytes);
    put(op, W(34, 18), 2, 1); /* the source is a reference */
    put(op, W(36, 20), 2, 0x7777);
    expect(0, grant_op(COPY, op, 1), "copy");
    return (int16_t)take(op, W(36, 20), 2);
}

static void check_copies(void)
{
    uint32_t to = scratch_frames(2), from = to + 1;
    memset(frame(to), 0, PAGE);
    put(frame(from), 0, 4, 0xfeedf00d);
    grant(REF, own_id, from);
    expect(0, copy(REF, own_id, to, 4), "copy of a granted frame");
    expect_hex(0xfeedf00d, take(frame(to), 0, 4), "it has the content");
    expect(BAD_REF, copy(100000, own_id, to, 4), "copy of a reference past the last");
    expect(BAD_DOMAIN, copy(REF, DOMID_NONE, to, 4), "copy of no domain");
    expect(-10, copy(REF, own_id, to, 4097), "copy of more than a page");
    expect(-EFAULT, grant_op(COPY, (void *)BAD, 1), "copy with a bad pointer");
    put(table, 8 * REF, 2, 0);
    expect(GENERAL, copy(REF, own_id, to, 4), "copy of a reference that is not granted");
    grant(REF, own_id, from);
}

static void check_others(void)
{
    static const struct { const char *name; uint8_t op; } filtered[] = {
        {"dump_table", DUMP}, {"transfer", TRANSFER}, {"unmap_and_replace", UNMAP_AND_REPLACE},
        {"get_status_frames", GET_STATUS}, {"cache_flush", CACHE_FLUSH}, {"sub-op 99", 99},
    };
    for (uint32_t i = 0; i < COUNT(filtered); i++)
        expect(-ENOSYS, grant_op(filtered[i].op, (void *)BAD, 1), filtered[i].name);
    uint32_t swap[3] = {9, 10, 0x7777};
    grant(9, own_id, 0x1111);
    grant(10, own_id, 0x2222);
    expect(0, grant_op(SWAP, swap, 1), "swap_grant_ref");
    expect(0, (int16_t)take(swap, 8, 2), "its status");
    expect_hex(0x2222, take(table, 8 * 9 + 4, 4), "the entries are swapped");
    swap[0] = 100000;
    expect(0, grant_op(SWAP, swap, 1), "swap_grant_ref of a reference past the last");
    expect(BAD_REF, (int16_t)take(swap, 8, 2), "its status is bad reference");
    expect(-EFAULT, grant_op(SWAP, (void *)BAD, 1), "swap_grant_ref with a bad pointer");
    put(table, 8 * 9, 2, 0);
    put(table, 8 * 10, 2, 0);
}

void check_grants(void)
{
    own_id = cpuid(xen_leaves + 4).ecx;
    check_queries();
    check_setup();
    check_copies();
    check_maps();
    check_others();
}
