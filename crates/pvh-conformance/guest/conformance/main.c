/* The conformance guest: every call of a Xen PVH domain, from 32-bit and 64-bit code, one check per line. */
#include "conformance.h"

enum { SCHEDOP_SHUTDOWN = 2, POWEROFF = 0, CR4_PSE = 0x10, CR4_PAE = 0x20 };

struct section {
    const char *name;
    void (*run)(void);
    bool only_32;
};

static const struct section sections[] = {
    {"platform", check_platform, true},
    {"version", check_version, false},
    {"memory", check_memory, false},
    {"physmap", check_add_to_physmap, false},
    {"params", check_params, false},
    {"hvm", check_hvm_op, false},
    {"clock", check_clock, false},
    {"events", check_events, false},
    {"event-errors", check_event_errors, false},
    {"fifo", check_fifo, false},
    {"upcalls", check_upcalls, true},
    {"sched", check_sched, false},
    {"timers", check_timers, false},
    {"vcpu", check_vcpu, false},
    {"grants", check_grants, false},
    {"misc", check_misc, false},
    {"multicall", check_multicall, false},
    {"contexts", check_contexts, false},
    {"secondaries", check_secondaries, false},
};

static void run_sections(void)
{
    for (uint32_t i = 0; i < COUNT(sections); i++) {
        if (!wanted(sections[i].name) || (wide && sections[i].only_32))
            continue;
        begin_section(sections[i].name);
        sections[i].run();
    }
}

/* From 64-bit code; setting CALLBACK_IRQ there makes the shared info's layout the native one. */
static void run_wide(void)
{
    use_long_mode(true);
    uint64_t callback = 0;
    get_param(PARAM_CALLBACK_IRQ, &callback);
    set_param(PARAM_CALLBACK_IRQ, callback);
    shared_wide = true;
    set_mask(console_port(), true);
    settle();
    run_sections();
    use_long_mode(false);
}

/* Starts the secondaries once more, with paging on the boot vCPU. */
static void run_paged(const char *name, uint32_t root, uint32_t cr4)
{
    if (!wanted("secondaries") || !wanted(name))
        return;
    begin_section(name);
    if (!pages_32_bit_code()) {
        gap("all of it", "this machine does not page outside long mode");
        return;
    }
    paging_on(root, cr4);
    lapic_enable(true);
    check_secondary_modes();
    paging_off();
}

/* From 16-bit code: calls with register arguments, calls with pointers, and the secondaries. */
static void run_narrow(void)
{
    narrow = true;
    begin_section("version");
    check_version();
    begin_section("event-errors");
    check_event_errors();
    begin_section("secondaries");
    lapic_enable(true);
    check_secondary_modes();
    narrow = false;
}

static void power_off(void)
{
    uint32_t reason = POWEROFF;
    call2(SCHED_OP, SCHEDOP_SHUTDOWN, AT(&reason));
}

extern const uint32_t start_info_at;

void guest_main(void)
{
    console_open();
    if (!find_xen()) {
        print("Bail out! no CPUID leaf says that this is Xen\n");
        return;
    }
    fill_hypercall_page();
    read_options(start_info_at);
    build_page_tables();
    console_ring_open();
    report_begin();
    begin_section("start");
    expect(0, map_shared_info(scratch_frames(1)), "the shared info is mapped");
    set_mask(console_port(), true); /* events of the back end must not disturb the checks */
    run_sections();
    run_paged("paged", root_of_2_levels(), CR4_PSE);
    run_paged("pae", root_of_pae(), CR4_PAE);
    if (wanted("narrow"))
        run_narrow();
    if (wanted("wide"))
        run_wide();
    list_gaps();
    report_end();
    console_ring_flush();
    power_off();
}

/* Called by entry.S for an exception; the arguments are in the order of the stack. */
void fault(uint32_t vector, uint32_t error, uint32_t eip);

void fault(uint32_t vector, uint32_t error, uint32_t eip)
{
    static bool again;
    if (again)
        return;
    again = true;
    print("Bail out! exception ");
    print_hex(vector, 2);
    print(" error ");
    print_hex(error, 8);
    print(" at ");
    print_hex(eip, 8);
    print("\n");
    console_ring_flush();
    power_off();
}
