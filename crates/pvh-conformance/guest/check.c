#include "guest.h"

/* The image's verdicts on its machine. */

const char *checking = "nothing yet";

static uint32_t failed;

void check(bool good, const char *clause)
{
    print(good ? "check ok: " : "check failed: ");
    print(clause);
    print("\n");
    if (!good)
        failed++;
}

void check_skipped(const char *clause, const char *why)
{
    print("check skipped: ");
    print(clause);
    print(": ");
    print(why);
    print("\n");
}

uint32_t failed_checks(void)
{
    return failed;
}

/* Called by entry.S for an exception; the arguments are in the order of the stack. */
void fault(uint32_t vector, uint32_t error, uint32_t eip);

void fault(uint32_t vector, uint32_t error, uint32_t eip)
{
    static bool again;
    if (!again)
        check(false, checking);
    print("exception: vector=");
    print_hex(vector, 2);
    print(" error=");
    print_hex(error, 8);
    print(" eip=");
    print_hex(eip, 8);
    print("\n");
    if (again)
        return;
    again = true;
    guest_end();
}
