/* The name of a check, put together from texts. */
#include "guest.h"

static char buffer[96];

static char *append(char *to, const char *text)
{
    while (*text != 0 && to < buffer + sizeof buffer - 1)
        *to++ = *text++;
    *to = 0;
    return to;
}

const char *joined(const char *a, const char *b, const char *c, const char *d)
{
    append(append(append(append(buffer, a), b), c), d);
    return buffer;
}
