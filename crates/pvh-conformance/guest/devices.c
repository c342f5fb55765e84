/* Uses each device of a PC as a driver would, and checks that it is there and whole, or absent and said to be so by
   the ACPI tables. */
#include "guest.h"
#include "start_info.h"

enum {
    FIRST_VECTOR = 32,
    VECTORS = 32,
    CODE_SELECTOR = 0x08,
    GATE = 0x8e00, /* present, 32-bit interrupt gate */
    PIC_BASE = 0x20,
    VECTOR_TIMER = 0x30,
    VECTOR_LINE_4 = 0x31,
    VECTOR_SPURIOUS = 0x3f,
    LINE_PIT = 0,
    LINE_COM1 = 4,

    PIC1 = 0x20,
    PIC2 = 0xa0,
    PIT_COUNT = 0x40,
    PIT_COMMAND = 0x43,
    KEYBOARD_DATA = 0x60,
    KEYBOARD = 0x64,
    CLOCK_INDEX = 0x70,
    CLOCK_DATA = 0x71,
    NOTHING = 0x80, /* an access to this port takes time, and does nothing */
    COM1 = 0x3f8,
    LAPIC = 0xfee00000,
    IO_APIC = 0xfec00000,

    FADT_PM1A_EVENT = 56,
    FADT_PM1A_CONTROL = 64,
    FADT_BOOT_ARCH = 109,
    HAS_8042 = 1 << 1,
    NO_CMOS_CLOCK = 1 << 5,
    MADT_FLAGS = 40,
    MADT_ENTRIES = 44,
    HAS_PICS = 1 << 0,
    ENTRY_IO_APIC = 1,

    WAITS = 100000, /* a tenth of a second at least, a few seconds where each access is emulated */
    FEW_WAITS = 2000,
    SECOND_WAITS = 2000000,
};

extern const uint8_t interrupt_stubs[];
void load_code_segment(void);
void on_interrupt(uint32_t vector);

static volatile uint32_t seen[VECTORS];
static uint32_t fadt, madt;

static volatile uint32_t *lapic(uint32_t offset)
{
    return (volatile uint32_t *)(LAPIC + offset);
}

/* Called by interrupts.S, with interrupts off. */
void on_interrupt(uint32_t vector)
{
    seen[vector - FIRST_VECTOR]++;
    if (vector == PIC_BASE + LINE_COM1 || vector == VECTOR_LINE_4)
        in8(COM1 + 2); /* reading the cause acknowledges it */
    if (vector < PIC_BASE + 16) {
        out8(PIC1, 0x20);
        if (vector >= PIC_BASE + 8)
            out8(PIC2, 0x20);
    } else if (vector != VECTOR_SPURIOUS) {
        *lapic(0xb0) = 0;
    }
}

static void open_interrupts(void)
{
    static uint64_t idt[FIRST_VECTOR + VECTORS] __attribute__((aligned(8)));
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) table;
    __asm__ volatile("sidt %0" : "=m"(table));
    for (uint32_t i = 0; i < FIRST_VECTOR; i++)
        idt[i] = read64(table.base + i * 8);
    for (uint32_t i = 0; i < VECTORS; i++) {
        uint32_t stub = (uint32_t)interrupt_stubs + i * 16;
        uint32_t low = CODE_SELECTOR << 16 | (stub & 0xffff);
        uint32_t high = (stub & 0xffff0000) | GATE;
        idt[FIRST_VECTOR + i] = (uint64_t)high << 32 | low;
    }
    table.base = (uint32_t)idt;
    table.limit = sizeof idt - 1;
    load_code_segment();
    __asm__ volatile("lidt %0" : : "m"(table));
}

/* Takes interrupts until `count` of a vector have come, or for a while. */
static bool comes(uint32_t vector, uint32_t count)
{
    volatile uint32_t *seen_here = &seen[vector - FIRST_VECTOR];
    __asm__ volatile("sti" : : : "memory");
    for (uint32_t wait = 0; wait < WAITS && *seen_here < count; wait++)
        in8(NOTHING);
    __asm__ volatile("cli" : : : "memory");
    bool came = *seen_here >= count;
    *seen_here = 0;
    return came;
}

/* Takes the interrupts that are left over. */
static void settle(uint32_t vector)
{
    __asm__ volatile("sti" : : : "memory");
    for (uint32_t wait = 0; wait < FEW_WAITS; wait++)
        in8(NOTHING);
    __asm__ volatile("cli" : : : "memory");
    seen[vector - FIRST_VECTOR] = 0;
}

static void say(const char *device, bool is_there)
{
    print("device: ");
    print(device);
    print(is_there ? ": there\n" : ": absent\n");
}

/* --- interrupt controllers --- */

static void check_local_apic(void)
{
    bool is_there = cpuid(1).edx >> 9 & 1;
    say("local APIC", is_there);
    checking = "local APIC: version and timer";
    if (!is_there)
        return;
    uint32_t version = *lapic(0x30);
    check((version & 0xf0) == 0x10 && (version >> 16 & 0xff) >= 3, "local APIC: its version has a timer and two lines");
    *lapic(0xf0) = 1 << 8 | VECTOR_SPURIOUS;
    *lapic(0x3e0) = 0xb; /* divide by 1 */
    *lapic(0x320) = VECTOR_TIMER;
    *lapic(0x380) = 1000000;
    check(comes(VECTOR_TIMER, 1), "local APIC: its timer interrupts");
    *lapic(0x320) = 1 << 16 | VECTOR_TIMER;
}

static bool said_pics(void)
{
    return read32(madt + MADT_FLAGS) & HAS_PICS;
}

static void init_pic(uint16_t port, uint8_t vector, uint8_t wiring)
{
    out8(port, 0x11);
    out8(port + 1, vector);
    out8(port + 1, wiring);
    out8(port + 1, 0x01);
    out8(port + 1, 0xff);
}

static bool keeps_mask(uint16_t port)
{
    out8(port + 1, 0xa5);
    bool good = in8(port + 1) == 0xa5;
    out8(port + 1, 0xff);
    return good && in8(port + 1) == 0xff;
}

/* The lines of the PICs come through the local APIC's first line. */
static void check_pics(void)
{
    say("PICs", said_pics());
    checking = "PICs";
    init_pic(PIC1, PIC_BASE, 4);
    init_pic(PIC2, PIC_BASE + 8, 2);
    bool good = keeps_mask(PIC1) && keeps_mask(PIC2);
    check(good == said_pics(), "PICs: their masks can be read back, or the MADT says that there are none");
    *lapic(0x350) = 0x700;
}

static uint32_t io_apic(uint32_t index)
{
    *(volatile uint32_t *)IO_APIC = index;
    return *(volatile uint32_t *)(IO_APIC + 0x10);
}

static void set_io_apic(uint32_t index, uint32_t value)
{
    *(volatile uint32_t *)IO_APIC = index;
    *(volatile uint32_t *)(IO_APIC + 0x10) = value;
}

static bool said_io_apic(void)
{
    uint32_t end = madt + read32(madt + 4);
    for (uint32_t at = madt + MADT_ENTRIES; at + 2 <= end && read8(at + 1) >= 2; at += read8(at + 1))
        if (read8(at) == ENTRY_IO_APIC)
            return true;
    return false;
}

static void check_io_apic(void)
{
    bool is_there = said_io_apic();
    say("I/O APIC", is_there);
    checking = "I/O APIC";
    uint32_t version = io_apic(1);
    if (is_there)
        check((version >> 16 & 0xff) >= 15 && (version & 0xff) != 0xff, "I/O APIC: its version has 16 lines or more");
    else
        check(version == 0xffffffff, "I/O APIC: there is none, and the MADT lists none");
}

/* --- the timer, with its line through the PIC --- */

static uint32_t timer_count(void)
{
    out8(PIT_COMMAND, 0);
    uint32_t low = in8(PIT_COUNT);
    return low | (uint32_t)in8(PIT_COUNT) << 8;
}

static void check_timer(void)
{
    checking = "timer";
    out8(PIT_COMMAND, 0x34); /* counter 0, both bytes, rate generator */
    out8(PIT_COUNT, 0x9c);
    out8(PIT_COUNT, 0x2e); /* 100 Hz */
    uint32_t first = timer_count(), second = first;
    for (uint32_t wait = 0; wait < FEW_WAITS && second == first; wait++)
        second = timer_count();
    bool runs = first != second;
    say("timer", runs);
    check(runs == said_pics(), "timer: it counts, or there are no PICs for its line either");
    if (!runs)
        return;
    out8(PIC1 + 1, (uint8_t)~(1 << LINE_PIT));
    check(comes(PIC_BASE + LINE_PIT, 3), "timer: it interrupts again and again through the PIC");
    out8(PIC1 + 1, 0xff);
}

/* --- COM1 --- */

/* Whether the DSDT names a device by this compressed EISA id. */
static bool dsdt_names(uint32_t id)
{
    uint32_t dsdt = read32(fadt + 40);
    uint32_t length = read32(dsdt + 4);
    for (uint32_t at = dsdt + 36; at + 4 <= dsdt + length; at++)
        if (read32(at) == id)
            return true;
    return false;
}

static bool is_uart(void)
{
    bool good = true;
    for (uint32_t value = 0; value < 2; value++) {
        out8(COM1 + 7, value ? 0x5a : 0xa5);
        good = good && in8(COM1 + 7) == (value ? 0x5a : 0xa5);
        out8(COM1 + 1, value ? 0x0f : 0);
        good = good && (in8(COM1 + 1) & 0x0f) == (value ? 0x0f : 0);
    }
    out8(COM1 + 1, 0);
    return good;
}

/* With the transmitter empty, turning its interrupt on causes one at once. */
static bool transmitter_interrupts(uint32_t vector)
{
    out8(COM1 + 4, 0x0b);
    in8(COM1 + 2);
    settle(vector);
    out8(COM1 + 1, 0x02);
    bool came = comes(vector, 1);
    out8(COM1 + 1, 0);
    return came;
}

static bool loops_back(void)
{
    out8(COM1 + 4, 0x1a);
    bool lines = (in8(COM1 + 6) & 0xf0) == 0x90;
    out8(COM1, 0x5a);
    bool data = (in8(COM1 + 5) & 1) && in8(COM1) == 0x5a;
    out8(COM1 + 4, 0x0b);
    return lines && data;
}

static void check_uart(void)
{
    bool is_there = dsdt_names(0x0105d041); /* PNP0501 */
    say("COM1", is_there);
    checking = "COM1";
    check(is_uart() == is_there, "COM1: its registers keep their values, or the DSDT has none");
    if (!is_there)
        return;
    out8(COM1 + 2, 0x01);
    check((in8(COM1 + 2) & 0xc0) == 0xc0, "COM1: it has FIFOs");
    check(loops_back(), "COM1: it loops back data and modem lines");
    out8(PIC1 + 1, (uint8_t)~(1 << LINE_COM1));
    check(transmitter_interrupts(PIC_BASE + LINE_COM1), "COM1: it interrupts through the PIC");
    out8(PIC1 + 1, 0xff);
    if (!said_io_apic())
        return;
    set_io_apic(0x10 + 2 * LINE_COM1 + 1, *lapic(0x20));
    set_io_apic(0x10 + 2 * LINE_COM1, VECTOR_LINE_4);
    check(transmitter_interrupts(VECTOR_LINE_4), "COM1: it interrupts through the I/O APIC");
    set_io_apic(0x10 + 2 * LINE_COM1, 1 << 16 | VECTOR_LINE_4);
}

/* --- clock, keyboard controller, power management --- */

static uint8_t clock_register(uint8_t index)
{
    out8(CLOCK_INDEX, index);
    return in8(CLOCK_DATA);
}

static bool is_bcd(uint8_t value, uint8_t most)
{
    return (value & 0xf) <= 9 && value <= most;
}

static void check_clock(void)
{
    bool is_there = !(read16(fadt + FADT_BOOT_ARCH) & NO_CMOS_CLOCK);
    say("clock", is_there);
    checking = "clock";
    uint8_t status = clock_register(0x0d);
    if (!is_there) {
        check(status == 0xff, "clock: there is none, and the FADT says so");
        return;
    }
    check(status == 0x80 && !(clock_register(0x0a) & 0x80), "clock: its date is valid and not being updated");
    uint8_t second = clock_register(0);
    check(is_bcd(second, 0x59) && is_bcd(clock_register(2), 0x59) && is_bcd(clock_register(4), 0x23) &&
              is_bcd(clock_register(7), 0x31) && is_bcd(clock_register(8), 0x12),
          "clock: date and time are BCD in their ranges");
    bool runs = false;
    for (uint32_t wait = 0; wait < SECOND_WAITS && !runs; wait++)
        runs = clock_register(0) != second;
    check(runs, "clock: its seconds advance");
    out8(CLOCK_INDEX, 0x0b);
    out8(CLOCK_DATA, 0x72);
    check((clock_register(0x0b) & 0x70) == 0, "clock: it has no interrupt to turn on, and the DSDT names none");
}

static void check_keyboard(void)
{
    bool is_there = read16(fadt + FADT_BOOT_ARCH) & HAS_8042;
    say("keyboard controller", is_there);
    checking = "keyboard controller";
    out8(KEYBOARD, 0xaa);
    bool answers = false;
    for (uint32_t wait = 0; wait < FEW_WAITS && !answers; wait++) {
        uint8_t status = in8(KEYBOARD);
        answers = status != 0xff && status & 1;
    }
    bool good = answers && in8(KEYBOARD_DATA) == 0x55;
    check(is_there ? good : !answers, "keyboard controller: it passes its self-test, or the FADT says that there is none");
}

static void check_power(void)
{
    uint16_t event = (uint16_t)read32(fadt + FADT_PM1A_EVENT), control = (uint16_t)read32(fadt + FADT_PM1A_CONTROL);
    say("PM1a", event != 0 && control != 0);
    checking = "PM1a";
    check(in16(control) & 1, "PM1a: ACPI mode is on");
    out16(event + 2, 0x0120);
    out16(event, 0xffff);
    check(in16(event + 2) == 0x0120 && in16(event) == 0, "PM1a: events can be turned on, and none is pending");
    out16(event + 2, 0);
}

void guest_main(void)
{
    console_open();
    print("\nPVH devices: begin\n");
    uint32_t rsdp = (uint32_t)read_start_info(at_entry.ebx).rsdp;
    checking = "the ACPI tables";
    fadt = acpi_table(rsdp, "FACP");
    madt = acpi_table(rsdp, "APIC");
    check(fadt != 0 && madt != 0, checking);
    if (fadt != 0 && madt != 0) {
        open_interrupts();
        check_local_apic();
        check_pics();
        check_io_apic();
        check_timer();
        check_uart();
        check_clock();
        check_keyboard();
        check_power();
    }
    guest_end();
}

void guest_end(void)
{
    print(failed_checks() == 0 ? "PVH devices: ok\n" : "PVH devices: failed\n");
    acpi_power_off(read_start_info(at_entry.ebx).rsdp);
    print("PVH devices: halted\n");
}
