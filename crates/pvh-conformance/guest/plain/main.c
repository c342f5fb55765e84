/* The plain guest: it checks a PVH machine, whoever made it, reports in TAP, and ends the machine. */
#include "plain.h"

static void describe(void)
{
    struct cpuid base = cpuid(0x40000000);
    const uint32_t words[3] = {base.ebx, base.ecx, base.edx};
    note("hypervisor");
    for (uint32_t i = 0; i < 12; i++) {
        char byte[2] = {(char)(words[i / 4] >> (8 * (i % 4))), 0};
        if (byte[0] >= ' ' && byte[0] <= '~')
            print(byte);
    }
    print("\n");
    note_hex("ebx", at_entry.ebx, 8);
    if (!has_start)
        return;
    note_hex("start info version", start.version, 8);
    note("command line");
    if (reachable(start.cmdline, 1))
        print_string((uint32_t)start.cmdline);
    else
        print("none");
    print("\n");
    for (uint32_t i = 0; i < memmap_count; i++) {
        struct memmap_entry entry = memmap_entry(i);
        note("memory");
        print_hex(entry.at, 16);
        print(" size ");
        print_hex(entry.size, 16);
        print(" type ");
        print_number(entry.type);
        print("\n");
    }
}

void guest_main(void)
{
    capture_lapic();
    read_machine();
    open_output();
    describe();
    check_image();
    check_entry();
    check_segments();
    check_msrs();
    check_lapic();
    check_cpuid();
    check_start_info();
    check_memory();
    check_modules();
    check_acpi();
    check_madt();
    check_processors();
    check_devices();
    report_end();
    end_machine();
}
