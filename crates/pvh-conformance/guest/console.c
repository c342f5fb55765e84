#include "guest.h"

enum {
    COM1 = 0x3f8,
    DATA = COM1,
    INTERRUPT_ENABLE = COM1 + 1,
    FIFO_CONTROL = COM1 + 2,
    LINE_CONTROL = COM1 + 3,
    MODEM_CONTROL = COM1 + 4,
    LINE_STATUS = COM1 + 5,
    THR_EMPTY = 0x20,
    DEBUG_PORT = 0xe9,
    ABSENT = 0xff,
    POLLS = 100000,
    STRING_LIMIT = 1024,
};

static bool com1, debug_port;
static void (*diverted)(char);

void console_open(void)
{
    com1 = in8(LINE_STATUS) != ABSENT;
    debug_port = !com1;
    if (!com1)
        return;
    out8(INTERRUPT_ENABLE, 0);
    out8(LINE_CONTROL, 0x80); /* divisor: 115200 baud */
    out8(DATA, 1);
    out8(INTERRUPT_ENABLE, 0);
    out8(LINE_CONTROL, 0x03); /* 8 bits, no parity, 1 stop bit */
    out8(FIFO_CONTROL, 0x07); /* FIFOs on and empty */
    out8(MODEM_CONTROL, 0x03);
}

void console_divert(void (*to)(char))
{
    diverted = to;
}

/* Gives up on a port that never gets ready, so that the guest still ends. */
static void put(char byte)
{
    if (diverted != 0) {
        diverted(byte);
        return;
    }
    if (debug_port)
        out8(DEBUG_PORT, (uint8_t)byte);
    if (!com1)
        return;
    for (uint32_t poll = 0; poll < POLLS; poll++) {
        if (in8(LINE_STATUS) & THR_EMPTY) {
            out8(DATA, (uint8_t)byte);
            return;
        }
    }
    com1 = false;
    debug_port = true;
}

void print(const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '\n')
            put('\r');
        put(*text);
    }
}

static void put_digits(uint64_t value, unsigned digits)
{
    while (digits-- > 0)
        put("0123456789abcdef"[value >> (4 * digits) & 0xf]);
}

void print_hex(uint64_t value, unsigned digits)
{
    print("0x");
    put_digits(value, digits);
}

const char *decimal(char digits[DIGITS], uint32_t value)
{
    unsigned at = DIGITS - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return &digits[at];
}

void print_number(uint32_t value)
{
    char digits[DIGITS];
    print(decimal(digits, value));
}

void print_string(uint32_t at)
{
    put('"');
    for (uint32_t i = 0; i < STRING_LIMIT; i++) {
        uint8_t byte = read8(at + i);
        if (byte == 0) {
            put('"');
            return;
        }
        if (byte == '"' || byte == '\\' || byte < ' ' || byte > '~') {
            print("\\x");
            put_digits(byte, 2);
        } else {
            put((char)byte);
        }
    }
    print("\"...");
}
