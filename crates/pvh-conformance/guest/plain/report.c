/* The report: TAP 14, a line for each check, a block of clause, wanted and seen after one that failed, the plan at
   the end. */
#include "plain.h"

static uint32_t checks, failures, skips;
static const char *group_name = "", *clause_text = "";

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
    print(", skipped ");
    print_number(skips);
    print("\n");
}

void group(const char *name)
{
    group_name = name;
}

void clause(const char *text)
{
    clause_text = text;
    print("# clause ");
    print(text);
    print("\n");
}

static void line(bool good, const char *name)
{
    checks++;
    if (!good)
        failures++;
    print(good ? "ok " : "not ok ");
    print_number(checks);
    print(" - ");
    print(group_name);
    print(": ");
    print(name);
}

static void value(uint64_t value)
{
    print_hex(value, value >> 32 ? 16 : 8);
}

/* Opens the block of a failed check up to its `wanted`. */
static void block(void)
{
    print("\n  ---\n  clause: \"");
    print(clause_text);
    print("\"\n  wanted: \"");
}

static void seen(uint64_t number)
{
    print("\"\n  seen: \"");
    value(number);
    print("\"\n  ...\n");
}

void equal(const char *name, uint64_t want, uint64_t got)
{
    line(want == got, name);
    if (want == got) {
        print("\n");
        return;
    }
    block();
    value(want);
    seen(got);
}

static void bits(const char *name, bool good, uint64_t mask, const char *state, uint64_t got)
{
    line(good, name);
    if (good) {
        print("\n");
        return;
    }
    block();
    value(mask);
    print(state);
    seen(got);
}

void bits_clear(const char *name, uint64_t value, uint64_t mask)
{
    bits(name, (value & mask) == 0, mask, " clear", value);
}

void bits_set(const char *name, uint64_t value, uint64_t mask)
{
    bits(name, (value & mask) == mask, mask, " set", value);
}

void holds(const char *name, bool good, const char *wanted, uint64_t got)
{
    line(good, name);
    if (good) {
        print("\n");
        return;
    }
    block();
    print(wanted);
    seen(got);
}

void skip(const char *name, const char *why)
{
    skips++;
    line(true, name);
    print(" # SKIP ");
    print(why);
    print("\n");
}

void note(const char *name)
{
    print("# ");
    print(name);
    print(": ");
}

void note_hex(const char *name, uint64_t number, unsigned digits)
{
    note(name);
    print_hex(number, digits);
    print("\n");
}

const char *named(const char *what, uint32_t number, const char *of)
{
    char digits[DIGITS];
    return joined(what, " ", decimal(digits, number), of);
}

bool is_same(const char *a, const char *b)
{
    while (*a != 0 && *a == *b)
        a++, b++;
    return *a == *b;
}

/* Called by entry.S for an exception that no probe expected; the arguments are in the order of the stack. */
void fault(uint32_t vector, uint32_t error, uint32_t eip);

void fault(uint32_t vector, uint32_t error, uint32_t eip)
{
    open_output(); /* a fault may come before the report has begun */
    print("\nBail out! exception ");
    print_hex(vector, 2);
    print(" error ");
    print_hex(error, 8);
    print(" eip ");
    print_hex(eip, 8);
    print(" in group ");
    print(group_name);
    print(", clause ");
    print(clause_text);
    print("\n");
    flush_output();
    static bool again;
    if (!again) {
        again = true;
        end_machine();
    }
}
