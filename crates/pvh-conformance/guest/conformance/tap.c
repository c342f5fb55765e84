/* The report: TAP, a line for each check, the plan at the end. */
#include "conformance.h"

static uint32_t checks, failures;
static const char *section = "";

void report_begin(void)
{
    print("TAP version 14\n");
}

void report_end(void)
{
    print("1..");
    print_number(checks);
    print("\n# failed ");
    print_number(failures);
    print("\n");
}

void begin_section(const char *name)
{
    section = name;
}

static void line(bool good, const char *name)
{
    checks++;
    if (!good)
        failures++;
    print(good ? "ok " : "not ok ");
    print_number(checks);
    print(wide ? " - 64 " : narrow ? " - 16 " : " - 32 ");
    print(section);
    print(": ");
    print(name);
}

static void print_signed(int64_t value)
{
    if (value < INT32_MIN || value > INT32_MAX) {
        print_hex((uint64_t)value, 16);
        return;
    }
    if (value < 0)
        print("-");
    print_number((uint32_t)(value < 0 ? -value : value));
}

void expect(int64_t want, int64_t got, const char *name)
{
    line(want == got, name);
    if (want != got) {
        print(" # got ");
        print_signed(got);
        print(" want ");
        print_signed(want);
    }
    print("\n");
}

void expect_hex(uint64_t want, uint64_t got, const char *name)
{
    line(want == got, name);
    if (want != got) {
        print(" # got ");
        print_hex(got, got >> 32 ? 16 : 8);
        print(" want ");
        print_hex(want, want >> 32 ? 16 : 8);
    }
    print("\n");
}

void expect_true(bool good, const char *name)
{
    line(good, name);
    print(good ? "\n" : " # got false want true\n");
}

void gap(const char *name, const char *why)
{
    line(true, name);
    print(" # SKIP ");
    print(why);
    print("\n");
}

const char *named(const char *what, const char *of)
{
    return joined(what, " ", of, "");
}

const char *named_number(const char *what, uint32_t number)
{
    char digits[DIGITS];
    return named(what, decimal(digits, number));
}
