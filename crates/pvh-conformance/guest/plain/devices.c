/* Each device that an ACPI table names answers as one. A device that none names is not touched. */
#include "plain.h"

enum {
    NOTHING = 0x80, /* an access to this port takes time, and does nothing */
    WAITS = 20000,
    SECOND_WAITS = 2000000,
    PIC1 = 0x21,
    PIC2 = 0xa1,
    PIT_COUNT = 0x40,
    PIT_COMMAND = 0x43,
    KEYBOARD_DATA = 0x60,
    KEYBOARD = 0x64,
    CLOCK_INDEX = 0x70,
    CLOCK_DATA = 0x71,
    COM1 = 0x3f8,
    FADT_BOOT_ARCH = 109,
    HAS_8042 = 1 << 1,
    NO_CMOS_CLOCK = 1 << 5,
    HARDWARE_REDUCED = 1 << 20,
    HAS_PICS = 1 << 0,
    ENTRY_IO_APIC = 1,
    LINE_MASKED = 1 << 16,
    COM_ID = 0x0105d041, /* PNP0501 */
};

static uint32_t lapic(uint32_t offset)
{
    return *(volatile uint32_t *)(LAPIC + offset);
}

static void set_lapic(uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(LAPIC + offset) = value;
}

/* The timer counts with its line masked. */
static void check_lapic_timer(void)
{
    clause("SDM: local APIC, timer");
    if (!captured.has_lapic) {
        skip("the local APIC's timer counts down", "there is no local APIC");
        return;
    }
    set_lapic(LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
    set_lapic(LAPIC_TIMER, LINE_MASKED | 0x30);
    set_lapic(LAPIC_TIMER_INITIAL, 0xffffffff);
    uint32_t first = lapic(LAPIC_TIMER_CURRENT), second = first;
    for (uint32_t wait = 0; wait < WAITS && second == first; wait++) {
        in8(NOTHING);
        second = lapic(LAPIC_TIMER_CURRENT);
    }
    set_lapic(LAPIC_TIMER_INITIAL, 0);
    holds("the local APIC's timer counts down", second < first, "less than before", second);
    equal("the local APIC's timer can be stopped", 0, lapic(LAPIC_TIMER_CURRENT));
    clause("SDM: local APIC, registers keep what is written");
    set_lapic(0x80, 0x20);
    equal("the task priority keeps what is written", 0x20, lapic(0x80));
    set_lapic(0x80, 0);
    set_lapic(LAPIC_SVR, 0x1ff);
    equal("the spurious vector keeps what is written", 0x1ff, lapic(LAPIC_SVR));
}

static void check_pic(uint16_t port, const char *keeps)
{
    uint8_t kept = in8(port);
    out8(port, 0xa5);
    uint8_t seen = in8(port);
    out8(port, 0x5a);
    bool good = seen == 0xa5 && in8(port) == 0x5a;
    out8(port, kept | 0xff);
    holds(keeps, good, "0xa5, then 0x5a", seen);
}

static void check_timer(void)
{
    out8(PIT_COMMAND, 0x34); /* counter 0, both bytes, rate generator */
    out8(PIT_COUNT, 0x9c);
    out8(PIT_COUNT, 0x2e);
    uint32_t first = 0, second = 0;
    for (uint32_t wait = 0; wait < WAITS && second == first; wait++) {
        out8(PIT_COMMAND, 0);
        second = in8(PIT_COUNT);
        second |= (uint32_t)in8(PIT_COUNT) << 8;
        if (wait == 0)
            first = second;
    }
    holds("the timer at port 0x40 counts", second != first, "another count", second);
    holds("the timer counts within what was set", second <= 0x2e9c, "0x2e9c or less", second);
}

static void check_legacy(void)
{
    clause("ACPI 5.2.12: PCAT_COMPAT (two 8259 PICs, and the timer at their line 0)");
    if (madt == 0 || !(read32(madt + 40) & HAS_PICS)) {
        skip("the first PIC keeps its mask", "the MADT does not name them");
        skip("the second PIC keeps its mask", "the MADT does not name them");
        skip("the timer at port 0x40 counts", "the MADT does not name PICs for its line");
        return;
    }
    check_pic(PIC1, "the first PIC keeps its mask");
    check_pic(PIC2, "the second PIC keeps its mask");
    check_timer();
}

static uint32_t io_apics;

static uint32_t io_apic(uint32_t base, uint32_t index)
{
    *(volatile uint32_t *)base = index;
    return *(volatile uint32_t *)(base + 0x10);
}

static void set_io_apic(uint32_t base, uint32_t index, uint32_t value)
{
    *(volatile uint32_t *)base = index;
    *(volatile uint32_t *)(base + 0x10) = value;
}

static void visit(uint32_t at, uint8_t type, uint8_t bytes)
{
    if (type != ENTRY_IO_APIC || bytes != 12)
        return;
    uint32_t base = read32(at + 4), number = io_apics++;
    clause("ACPI 5.2.12.3: I/O APIC");
    uint32_t version = io_apic(base, 1), lines = (version >> 16 & 0xff) + 1;
    holds(named("I/O APIC", number, " has a version"), (version & 0xff) >= 0x10 && (version & 0xff) <= 0x2f,
          "0x10 to 0x2f", version & 0xff);
    holds(named("I/O APIC", number, " has 16 to 240 lines"), lines >= 16 && lines <= 240, "16 to 240", lines);
    if (lines > 240)
        return;
    uint32_t unmasked = 0;
    for (uint32_t line = 0; line < lines; line++)
        unmasked += !(io_apic(base, 0x10 + 2 * line) & LINE_MASKED);
    equal(named("I/O APIC", number, " has every line masked"), 0, unmasked);
    uint32_t last = 0x10 + 2 * (lines - 1), kept = io_apic(base, last);
    set_io_apic(base, last, LINE_MASKED | 0x55);
    equal(named("I/O APIC", number, " keeps a vector"), 0x55, io_apic(base, last) & 0xff);
    set_io_apic(base, last, kept);
}

static void check_io_apics(void)
{
    if (madt != 0)
        each_madt_entry(visit);
    if (io_apics != 0)
        return;
    clause("ACPI 5.2.12.3: I/O APIC");
    skip("I/O APIC 0 has a version", "the MADT lists none");
}

static void check_uart(void)
{
    clause("DSDT: PNP0501, a 16550 at 0x3f8");
    if (!dsdt_names(COM_ID)) {
        skip("COM1 keeps its scratch register", "the DSDT names none");
        return;
    }
    out8(COM1 + 7, 0xa5);
    uint8_t first = in8(COM1 + 7);
    out8(COM1 + 7, 0x5a);
    holds("COM1 keeps its scratch register", first == 0xa5 && in8(COM1 + 7) == 0x5a, "0xa5, then 0x5a", first);
    out8(COM1 + 2, 0x01);
    bits_set("COM1 has FIFOs", in8(COM1 + 2), 0xc0);
    for (uint32_t wait = 0; wait < WAITS && !(in8(COM1 + 5) & 0x40); wait++)
        in8(NOTHING);
    bits_set("COM1 sends what it has", in8(COM1 + 5), 0x60);
    out8(COM1 + 4, 0x1a); /* what is printed meanwhile is lost */
    uint8_t lines = in8(COM1 + 6);
    out8(COM1 + 4, 0x03);
    equal("COM1 loops its modem lines back", 0x90, lines & 0xf0);
}

static uint8_t clock_register(uint8_t index)
{
    out8(CLOCK_INDEX, index);
    return in8(CLOCK_DATA);
}

static bool is_in_range(uint8_t value, uint8_t most, bool is_binary)
{
    return is_binary ? value <= (most >> 4) * 10 + (most & 0xf) : (value & 0xf) <= 9 && value <= most;
}

static void check_clock(uint16_t boot_arch)
{
    clause("ACPI 5.2.9: IAPC_BOOT_ARCH, CMOS clock");
    if (boot_arch & NO_CMOS_CLOCK || read32(fadt + 112) & HARDWARE_REDUCED) {
        skip("the clock's date is valid", "the FADT says that there is none");
        return;
    }
    bits_set("the clock's date is valid", clock_register(0x0d), 0x80);
    bool is_binary = clock_register(0x0b) & 4;
    uint8_t second = clock_register(0);
    holds("the clock's time is in range",
          is_in_range(second, 0x59, is_binary) && is_in_range(clock_register(2), 0x59, is_binary), "0 to 59", second);
    holds("the clock's date is in range",
          is_in_range(clock_register(7), 0x31, is_binary) && is_in_range(clock_register(8), 0x12, is_binary),
          "1 to 31, 1 to 12", clock_register(7));
    bool runs = false;
    for (uint32_t wait = 0; wait < SECOND_WAITS && !runs; wait++)
        runs = clock_register(0) != second;
    holds("the clock's seconds advance", runs, "another second", second);
}

static void check_keyboard(uint16_t boot_arch)
{
    clause("ACPI 5.2.9: IAPC_BOOT_ARCH, 8042");
    if (!(boot_arch & HAS_8042)) {
        skip("the keyboard controller passes its self-test", "the FADT does not name it");
        return;
    }
    uint8_t answer = 0;
    bool answers = false;
    for (uint32_t wait = 0; wait < WAITS && in8(KEYBOARD) != 0xff && in8(KEYBOARD) & 1; wait++)
        in8(KEYBOARD_DATA); /* what was typed before */
    out8(KEYBOARD, 0xaa);
    for (uint32_t wait = 0; wait < WAITS && !answers; wait++) {
        uint8_t status = in8(KEYBOARD);
        answers = status != 0xff && status & 1;
    }
    if (answers)
        answer = in8(KEYBOARD_DATA);
    equal("the keyboard controller passes its self-test", 0x55, answer);
}

static uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void check_power(void)
{
    bool is_reduced = read32(fadt + 112) & HARDWARE_REDUCED;
    uint16_t control = (uint16_t)read32(fadt + 64), event = (uint16_t)read32(fadt + 56), clock = (uint16_t)read32(fadt + 76);
    clause("ACPI 4.8.3: fixed hardware, PM1a and the PM timer");
    if (is_reduced || control == 0) {
        skip("the PM1a control register reads", "the FADT names none");
    } else {
        holds("the PM1a control register reads", in16(control) != 0xffff, "not all ones", in16(control));
        bits_clear("the PM1a control register starts no sleep", in16(control), 1 << 13);
    }
    if (is_reduced || event == 0) {
        skip("the PM1a event register keeps what is enabled", "the FADT names none");
    } else {
        uint16_t kept = in16(event + 2);
        out16(event + 2, 0x0100);
        uint16_t on = in16(event + 2);
        out16(event + 2, 0);
        holds("the PM1a event register keeps what is enabled", (on & 0x0100) && !(in16(event + 2) & 0x0100),
              "0x0100, then 0", on);
        out16(event + 2, kept);
    }
    if (is_reduced || clock == 0) {
        skip("the PM timer counts", "the FADT names none");
        return;
    }
    uint32_t first = in32(clock), second = first;
    for (uint32_t wait = 0; wait < WAITS && second == first; wait++)
        second = in32(clock);
    holds("the PM timer counts", second != first, "another count", second);
}

static void check_named_tables(void)
{
    uint32_t hpet = acpi_table((uint32_t)start.rsdp, "HPET"), mcfg = acpi_table((uint32_t)start.rsdp, "MCFG");
    clause("ACPI: HPET");
    if (hpet == 0 || !reachable(read64(hpet + 44), 1024)) {
        skip("the HPET has a period below 100 ns", "no table names it");
    } else {
        uint32_t base = (uint32_t)read64(hpet + 44), period = *(volatile uint32_t *)(base + 4);
        holds("the HPET has a period below 100 ns", period != 0 && period <= 0x05f5e100, "1 to 10^8 fs", period);
        equal("the HPET's id is the table's", read32(hpet + 36), *(volatile uint32_t *)base);
    }
    clause("PCI Firmware: MCFG");
    if (mcfg == 0 || read32(mcfg + 4) < 60 || !reachable(read64(mcfg + 44), 1 << 20)) {
        skip("PCI device 00:00.0 has a vendor", "no table names an ECAM below 4 GiB");
    } else {
        uint32_t id = *(volatile uint32_t *)(uint32_t)read64(mcfg + 44);
        holds("PCI device 00:00.0 has a vendor", (id & 0xffff) != 0xffff && (id & 0xffff) != 0, "a vendor", id);
    }
}

void check_devices(void)
{
    group("devices");
    check_lapic_timer();
    check_legacy();
    check_io_apics();
    if (fadt == 0) {
        clause("ACPI 5.2.9: FADT");
        skip("the FADT's devices answer", "there is no FADT");
        return;
    }
    uint16_t boot_arch = read16(fadt + FADT_BOOT_ARCH);
    check_uart();
    check_clock(boot_arch);
    check_keyboard(boot_arch);
    check_power();
    check_named_tables();
}
