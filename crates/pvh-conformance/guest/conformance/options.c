/* The command line: `only=a,b` runs these sections, `no=a,b` all others. */
#include "conformance.h"

enum { MAGIC = 0x336ec578, CMDLINE_AT = 0x18, LIMIT = 1024 };

static const char *only, *no;

static const char *after(const char *text, const char *prefix)
{
    while (*prefix != 0)
        if (*text++ != *prefix++)
            return 0;
    return text;
}

void read_options(uint32_t start_info)
{
    if (read32(start_info) != MAGIC)
        return;
    const char *text = (const char *)(uint32_t)read64(start_info + CMDLINE_AT);
    if (text == 0)
        return;
    bool begins = true;
    for (uint32_t i = 0; i < LIMIT && text[i] != 0; i++) {
        if (begins && after(&text[i], "only="))
            only = after(&text[i], "only=");
        if (begins && after(&text[i], "no="))
            no = after(&text[i], "no=");
        begins = text[i] == ' ';
    }
}

static bool lists(const char *list, const char *section)
{
    for (;;) {
        const char *rest = after(list, section);
        if (rest != 0 && (*rest == 0 || *rest == ',' || *rest == ' '))
            return true;
        while (*list != 0 && *list != ',' && *list != ' ')
            list++;
        if (*list++ != ',')
            return false;
    }
}

bool wanted(const char *section)
{
    if (no != 0 && lists(no, section))
        return false;
    return only == 0 || lists(only, section);
}
