/* Ends the machine by every way that a VMM may know, the gentlest first, and tells each before it tries. */
#include "../xen.h"
#include "plain.h"

enum {
    QEMU_POWER = 0x604, SLP_EN = 0x2000,
    DEBUG_EXIT = 0x501,
    KEYBOARD = 0x64, RESET = 0xfe,
    NOTHING = 0x80,
    WAITS = 20000,
};

static void say(const char *way)
{
    print("# end: ");
    print(way);
    print("\n");
    flush_output();
}

static void wait_a_while(void)
{
    for (uint32_t wait = 0; wait < WAITS; wait++)
        in8(NOTHING);
}

void end_machine(void)
{
    print("# end: ");
    if (acpi_power_off(has_start ? start.rsdp : 0))
        wait_a_while();
    print("# end: ");
    if (xen_power_off())
        wait_a_while();
    else
        print("no Xen\n");
    say("0x2000 to port 0x604");
    out16(QEMU_POWER, SLP_EN);
    wait_a_while();
    say("0 to port 0x501");
    out8(DEBUG_EXIT, 0);
    wait_a_while();
    say("0xfe to port 0x64");
    out8(KEYBOARD, RESET);
    wait_a_while();
    say("triple fault");
    triple_fault();
}
