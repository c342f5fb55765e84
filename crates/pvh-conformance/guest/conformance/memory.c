/* memory_op: the memory map, reservations, populate and decrease. */
#include "conformance.h"

enum {
    INCREASE, DECREASE, MAXIMUM_RAM_PAGE, CURRENT, MAXIMUM, MFN_LIST, POPULATE, MEMORY_MAP = 9, MACHINE_MAP = 10,
    EXCHANGE = 11, MACHPHYS_MAPPING = 12, SET_MEMORY_MAP = 13, MAXIMUM_GPFN = 14, ENTRY_BYTES = 20, ENTRIES = 64,
};

static uint8_t map[ENTRIES * ENTRY_BYTES];
static uint32_t map_entries;

static int64_t memory_map(uint32_t entries, uint32_t buffer, uint32_t *told)
{
    uint32_t op[4] = {entries};
    put_pointer(op, W(8, 4), buffer);
    int64_t result = call2(MEMORY_OP, MEMORY_MAP, AT(op));
    *told = (uint32_t)take(op, 0, 4);
    return result;
}

static int64_t set_memory_map(uint32_t domain, uint32_t entries, uint32_t buffer)
{
    uint32_t op[6] = {0};
    put(op, 0, 2, domain);
    put(op, W(8, 4), 4, entries);
    put_pointer(op, W(16, 8), buffer);
    return call2(MEMORY_OP, SET_MEMORY_MAP, AT(op));
}

static void check_map(void)
{
    uint32_t told;
    expect(0, memory_map(ENTRIES, AT(map), &told), "memory_map");
    expect_true(told >= 2 && told <= ENTRIES, "memory_map has a few entries");
    map_entries = told;
    expect_hex(0, take(map, 0, 8), "memory_map begins at 0");
    expect(1, (int64_t)take(map, 16, 4), "memory_map begins with RAM");
    expect(0, memory_map(1, AT(map), &told), "memory_map into a short buffer");
    expect(1, told, "memory_map into a short buffer says how many fit");
    expect(0, memory_map(0, AT(map), &told), "memory_map into no buffer");
    expect(-EFAULT, memory_map(ENTRIES, BAD, &told), "memory_map into a bad buffer");
    expect(-EFAULT, call2(MEMORY_OP, MEMORY_MAP, BAD), "memory_map with a bad pointer");
    uint8_t changed[ENTRY_BYTES];
    memcpy(changed, map, ENTRY_BYTES);
    put(changed, 8, 8, 0x123000);
    expect(0, set_memory_map(DOMID_SELF, 1, AT(changed)), "set_memory_map");
    uint8_t again[ENTRY_BYTES];
    memory_map(1, AT(again), &told);
    expect_hex(0x123000, take(again, 8, 8), "memory_map tells what was set");
    expect(0, set_memory_map(DOMID_SELF, map_entries, AT(map)), "set_memory_map back");
    expect(-EINVAL, set_memory_map(DOMID_SELF, 1025, AT(map)), "set_memory_map of 1025 entries");
    expect(-EFAULT, set_memory_map(DOMID_SELF, 1, BAD), "set_memory_map from a bad buffer");
    expect(-ESRCH, set_memory_map(DOMID_NONE, 1, AT(map)), "set_memory_map of no domain");
    expect(-EPERM, set_memory_map(BACKEND, 1, AT(map)), "set_memory_map of another domain");
    expect(-EFAULT, call2(MEMORY_OP, SET_MEMORY_MAP, BAD), "set_memory_map with a bad pointer");
}

static int64_t of_domain(uint32_t op, uint32_t domain)
{
    uint16_t id = (uint16_t)domain;
    return call2(MEMORY_OP, op, AT(&id));
}

static void check_numbers(void)
{
    static const struct { const char *name; uint32_t op; } numbers[] = {
        {"current_reservation", CURRENT}, {"maximum_reservation", MAXIMUM}, {"maximum_gpfn", MAXIMUM_GPFN},
    };
    expect_true(call2(MEMORY_OP, MAXIMUM_RAM_PAGE, 0) > 0, "maximum_ram_page");
    for (uint32_t i = 0; i < COUNT(numbers); i++) {
        expect_true(of_domain(numbers[i].op, DOMID_SELF) >= 0x1000, numbers[i].name);
        expect(-ESRCH, of_domain(numbers[i].op, DOMID_NONE), named(numbers[i].name, "of no domain"));
        expect(-EPERM, of_domain(numbers[i].op, BACKEND), named(numbers[i].name, "of another domain"));
        expect(-EFAULT, call2(MEMORY_OP, numbers[i].op, BAD), named(numbers[i].name, "with a bad pointer"));
    }
    expect_true(of_domain(CURRENT, DOMID_SELF) <= of_domain(MAXIMUM, DOMID_SELF), "no more is held than may be");
}

struct reservation {
    uint32_t extents, count, order, flags, domain;
};

static int64_t reserve(uint32_t op, struct reservation r)
{
    uint32_t words[8] = {0};
    put_pointer(words, 0, r.extents);
    put(words, W(8, 4), W(8, 4), r.count);
    put(words, W(16, 8), 4, r.order);
    put(words, W(20, 12), 4, r.flags);
    put(words, W(24, 16), 2, r.domain);
    return call2(MEMORY_OP, op, AT(words));
}

/* Extents are frame numbers, of the caller's width. */
static void put_extent(uint64_t *list, uint32_t index, uint32_t gfn)
{
    put(list, index * W(8, 4), W(8, 4), gfn);
}

static void check_balloon(void)
{
    uint64_t list[4] = {0};
    uint32_t gfn = scratch_frames(4);
    for (uint32_t i = 0; i < 4; i++)
        put_extent(list, i, gfn + i);
    struct reservation one = {AT(list), 1, 0, 0, DOMID_SELF}, four = {AT(list), 4, 0, 0, DOMID_SELF};
    put(frame(gfn), 0, 4, 0x1234567);
    int64_t before = of_domain(CURRENT, DOMID_SELF);
    expect(4, reserve(DECREASE, four), "decrease_reservation of 4 frames");
    expect(before - 4, of_domain(CURRENT, DOMID_SELF), "current_reservation is 4 less");
    expect(0, reserve(DECREASE, one), "decrease_reservation of a frame that is gone");
    expect(4, reserve(POPULATE, four), "populate_physmap of 4 frames");
    expect(before, of_domain(CURRENT, DOMID_SELF), "current_reservation is as before");
    expect_hex(0, take(frame(gfn), 0, 4), "a frame that came back is empty");
    put_extent(list, 0, HOLE_GFN + 8);
    expect(0, reserve(DECREASE, one), "decrease_reservation of a hole");
    put_extent(list, 0, gfn);
    put_extent(list, 1, HOLE_GFN + 8);
    struct reservation two = {AT(list), 2, 0, 0, DOMID_SELF};
    expect(1, reserve(DECREASE, two), "decrease_reservation stops at a hole");
    put_extent(list, 0, HOLE_GFN + 8);
    expect(1, reserve(POPULATE, one), "populate_physmap in a hole");
    put(frame(HOLE_GFN + 8), 0, 4, 0x1234567);
    expect_hex(0x1234567, take(frame(HOLE_GFN + 8), 0, 4), "a frame in a hole holds what is written");
    expect(1, reserve(DECREASE, one), "decrease_reservation of that frame");
    put_extent(list, 0, gfn);
    expect(1, reserve(POPULATE, one), "populate_physmap where RAM was");
    expect(1, reserve(POPULATE, one), "populate_physmap where RAM is");
}

static void check_reservation_errors(void)
{
    uint64_t list[1] = {0};
    put_extent(list, 0, scratch_frames(1));
    static const struct { const char *name; uint32_t op; } ops[] = {
        {"increase_reservation", INCREASE}, {"decrease_reservation", DECREASE}, {"populate_physmap", POPULATE},
    };
    for (uint32_t i = 0; i < COUNT(ops); i++) {
        struct reservation r = {AT(list), 0, 0, 0, DOMID_SELF};
        expect(0, reserve(ops[i].op, r), named(ops[i].name, "of nothing"));
        r.count = 1;
        r.domain = DOMID_NONE;
        expect(0, reserve(ops[i].op, r), named(ops[i].name, "for no domain"));
        r.domain = BACKEND;
        expect(0, reserve(ops[i].op, r), named(ops[i].name, "for another domain"));
        r.domain = DOMID_SELF;
        r.order = 30;
        expect(0, reserve(ops[i].op, r), named(ops[i].name, "of order 30"));
        r.order = 0;
        r.extents = BAD;
        if (ops[i].op != INCREASE)
            expect(0, reserve(ops[i].op, r), named(ops[i].name, "of a bad list"));
        expect(0, call2(MEMORY_OP, ops[i].op, BAD), named(ops[i].name, "with a bad pointer"));
    }
}

static void check_other_ops(void)
{
    static const struct { const char *name; uint32_t op; int8_t want, want_64; } ops[] = {
        {"machphys_mfn_list", MFN_LIST, -EOPNOTSUPP, -EFAULT},
        {"machine_memory_map", MACHINE_MAP, -ENOSYS, -ENOSYS},
        {"exchange", EXCHANGE, -EFAULT, -EFAULT},
        {"machphys_mapping", MACHPHYS_MAPPING, -ENOSYS, -ENOSYS},
        {"set_pod_target", 16, -EFAULT, -EFAULT},
        {"get_pod_target", 17, -EFAULT, -EFAULT},
        {"get_sharing_freed_pages", 18, 0, 0},
        {"get_sharing_shared_pages", 19, 0, 0},
        {"paging_op", 20, -ENOSYS, -ENOSYS},
        {"access_op", 21, -EFAULT, -EFAULT},
        {"sharing_op", 22, -ENOSYS, -ENOSYS},
        {"claim_pages", 24, -ENOSYS, -EFAULT},
        {"machphys_compat_mfn_list", 25, -EOPNOTSUPP, -EOPNOTSUPP},
        {"get_vnumainfo", 26, -EFAULT, -EFAULT},
        {"reserved_device_memory_map", 27, -EFAULT, -EFAULT},
        {"acquire_resource", 28, -EFAULT, -EACCES},
        {"the unused sub-op 8", 8, -ENOSYS, -ENOSYS},
        {"sub-op 29", 29, -ENOSYS, -ENOSYS},
        {"sub-op 63", 63, -ENOSYS, -ENOSYS},
    };
    for (uint32_t i = 0; i < COUNT(ops); i++)
        expect(W(ops[i].want_64, ops[i].want), call2(MEMORY_OP, ops[i].op, BAD), named(ops[i].name, "with a bad pointer"));
    uint32_t zero[16] = {0};
    put(zero, 0, 2, DOMID_SELF);
    expect(-EOPNOTSUPP, call2(MEMORY_OP, 26, AT(zero)), "get_vnumainfo");
    expect(-EINVAL, call2(MEMORY_OP, 16, AT(zero)), "set_pod_target of oneself");
    expect(-EINVAL, call2(MEMORY_OP, 17, AT(zero)), "get_pod_target of oneself");
}

void check_memory(void)
{
    check_map();
    check_numbers();
    check_balloon();
    check_reservation_errors();
    check_other_ops();
}
