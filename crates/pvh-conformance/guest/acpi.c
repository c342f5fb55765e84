#include "guest.h"

enum {
    HEADER = 36,            /* bytes of every table's header */
    TABLES_LIMIT = 64,      /* tables read */
    DSDT_LIMIT = 256 << 10, /* bytes searched for _S5 */
    POLLS = 100000,
    SPACE_MEMORY = 0,
    SPACE_IO = 1,
    HARDWARE_REDUCED = 1 << 20,
    SCI_EN = 1 << 0,
    SLP_EN = 1 << 13,
    SLP_TYP_SHIFT = 10,
    SLEEP_SLP_EN = 1 << 5,
    SLEEP_SLP_TYP_SHIFT = 2,
};

struct sleep_types {
    uint8_t a, b;
};

static bool reachable(uint64_t at)
{
    return at != 0 && at < 0xfffff000u;
}

static bool has_text(uint32_t at, const char *text)
{
    for (; *text != 0; text++, at++)
        if (read8(at) != (uint8_t)*text)
            return false;
    return true;
}

bool acpi_rsdp_is_sound(uint32_t rsdp)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < 20; i++)
        sum = (uint8_t)(sum + read8(rsdp + i));
    return has_text(rsdp, "RSD PTR ") && sum == 0;
}

uint32_t acpi_table(uint32_t rsdp, const char *signature)
{
    uint64_t root = read8(rsdp + 15) >= 2 ? read64(rsdp + 24) : 0;
    uint32_t entry_bytes = 8;
    if (!reachable(root)) {
        root = read32(rsdp + 16);
        entry_bytes = 4;
    }
    if (!reachable(root))
        return 0;
    uint32_t length = read32((uint32_t)root + 4);
    for (uint32_t i = 0; i < TABLES_LIMIT; i++) {
        uint32_t offset = HEADER + i * entry_bytes;
        if (offset + entry_bytes > length)
            return 0;
        uint32_t at = (uint32_t)root + offset;
        uint64_t table = entry_bytes == 8 ? read64(at) : read32(at);
        if (reachable(table) && has_text((uint32_t)table, signature))
            return (uint32_t)table;
    }
    return 0;
}

/* Reads an AML integer below 256 at *at, and advances *at. */
static uint8_t aml_byte(uint32_t *at)
{
    uint8_t op = read8((*at)++);
    switch (op) {
    case 0x0a: /* BytePrefix */
        return read8((*at)++);
    case 0x0b: /* WordPrefix */
        *at += 2;
        return read8(*at - 2);
    case 0x0c: /* DWordPrefix */
        *at += 4;
        return read8(*at - 4);
    default: /* ZeroOp, OneOp, OnesOp */
        return op;
    }
}

/* Name (\_S5, Package () { SLP_TYPa, SLP_TYPb, ... }), found by its bytes: no AML is run. */
static bool find_s5(uint32_t dsdt, struct sleep_types *types)
{
    uint32_t length = read32(dsdt + 4);
    if (length > DSDT_LIMIT)
        length = DSDT_LIMIT;
    for (uint32_t i = HEADER; i + 8 < length; i++) {
        uint32_t at = dsdt + i;
        if (!has_text(at, "_S5_") || read8(at + 4) != 0x12)
            continue;
        at += 5;
        at += 1u + (read8(at) >> 6); /* PkgLength: its top two bits count more bytes */
        uint8_t elements = read8(at++);
        if (elements == 0)
            continue;
        types->a = aml_byte(&at) & 7;
        types->b = elements > 1 ? aml_byte(&at) & 7 : 0;
        return true;
    }
    return false;
}

/* The sleep control register of a hardware-reduced platform; `gas` is its generic address structure:
   address space, width, offset and access size in a byte each, then the address. */
static void write_sleep_control(uint32_t gas, uint8_t value)
{
    uint64_t at = read64(gas + 4);
    print("power off: by sleep control register ");
    print_hex(at, 16);
    print("\n");
    if (read8(gas) == SPACE_IO && at <= 0xffff)
        out8((uint16_t)at, value);
    if (read8(gas) == SPACE_MEMORY && reachable(at))
        *(volatile uint8_t *)(uint32_t)at = value;
}

static void enable_acpi(uint32_t fadt, uint16_t control)
{
    uint32_t smi_command = read32(fadt + 48);
    if (smi_command == 0 || smi_command > 0xffff || in16(control) & SCI_EN)
        return;
    out8((uint16_t)smi_command, read8(fadt + 52));
    for (uint32_t poll = 0; poll < POLLS && !(in16(control) & SCI_EN); poll++)
        ;
}

static void sleep_by(uint16_t control, uint8_t type)
{
    uint16_t kept = in16(control) & (uint16_t)~(SLP_EN | 7 << SLP_TYP_SHIFT);
    out16(control, (uint16_t)(kept | type << SLP_TYP_SHIFT | SLP_EN));
}

/* A PM1 control port: the old 32-bit field, or the port of the newer generic address structure. */
static uint16_t pm1_control(uint32_t fadt, uint32_t field, uint32_t gas_field)
{
    uint64_t port = read32(fadt + field);
    if (port == 0 && read32(fadt + 4) >= gas_field + 12 && read8(fadt + gas_field) == SPACE_IO)
        port = read64(fadt + gas_field + 4);
    return port <= 0xffff ? (uint16_t)port : 0;
}

/* Returns whether there was a way to try. */
static bool power_off_by(uint32_t fadt)
{
    uint32_t length = read32(fadt + 4);
    uint64_t dsdt = length >= 148 ? read64(fadt + 140) : 0;
    struct sleep_types types;
    if (!reachable(dsdt))
        dsdt = read32(fadt + 40);
    if (!reachable(dsdt) || !find_s5((uint32_t)dsdt, &types)) {
        print("power off: none: no _S5 in the DSDT\n");
        return false;
    }
    bool reduced = length >= 116 && read32(fadt + 112) & HARDWARE_REDUCED;
    if (reduced && length >= 256) {
        write_sleep_control(fadt + 244, (uint8_t)(types.a << SLEEP_SLP_TYP_SHIFT | SLEEP_SLP_EN));
        return true;
    }
    uint16_t a = pm1_control(fadt, 64, 172), b = pm1_control(fadt, 68, 184);
    if (reduced || a == 0) {
        print("power off: none: the FADT names no control register\n");
        return false;
    }
    print("power off: by PM1a control port ");
    print_hex(a, 4);
    print("\n");
    enable_acpi(fadt, a);
    sleep_by(a, types.a);
    if (b != 0)
        sleep_by(b, types.b);
    return true;
}

bool acpi_power_off(uint64_t rsdp)
{
    if (!reachable(rsdp) || !acpi_rsdp_is_sound((uint32_t)rsdp)) {
        print("power off: none: no RSDP\n");
        return false;
    }
    uint32_t fadt = acpi_table((uint32_t)rsdp, "FACP");
    if (fadt == 0) {
        print("power off: none: no FADT\n");
        return false;
    }
    if (!power_off_by(fadt))
        return false;
    for (volatile uint32_t wait = 0; wait < POLLS; wait++)
        ;
    return true;
}
