/* xen_version and the features. */
#include "conformance.h"

enum {
    VERSION, EXTRAVERSION, COMPILE_INFO, CAPABILITIES, CHANGESET, PLATFORM_PARAMETERS, GET_FEATURES, PAGESIZE,
    GUEST_HANDLE, COMMANDLINE, BUILD_ID,
};

static uint8_t buffer[1024 + 4];

static int64_t version(uint32_t op, void *argument)
{
    return call2(XEN_VERSION, op, AT(argument));
}

static bool holds(const char *text)
{
    for (uint32_t at = 0; at < 1024 && buffer[at] != 0; at++) {
        uint32_t i = 0;
        while (text[i] != 0 && buffer[at + i] == (uint8_t)text[i])
            i++;
        if (text[i] == 0)
            return true;
    }
    return false;
}

/* A write past the size would change the next word. */
static void check_text(uint32_t op, uint32_t bytes, const char *name)
{
    memset(buffer, 0xee, sizeof buffer);
    expect(0, version(op, buffer), named(name, "is told"));
    expect_hex(0xee, buffer[bytes], named(name, "ends where it should"));
}

static void check_errors(void)
{
    static const struct { const char *name; uint32_t op; } pointers[] = {
        {"extraversion", EXTRAVERSION}, {"compile info", COMPILE_INFO}, {"capabilities", CAPABILITIES},
        {"changeset", CHANGESET}, {"platform parameters", PLATFORM_PARAMETERS}, {"features", GET_FEATURES},
        {"guest handle", GUEST_HANDLE}, {"command line", COMMANDLINE},
    };
    for (uint32_t i = 0; i < COUNT(pointers); i++)
        expect(-EFAULT, version(pointers[i].op, (void *)BAD), named(pointers[i].name, "at a bad pointer"));
    expect(-EINVAL, version(PAGESIZE, buffer), "page size with a pointer");
    expect(-EPERM, version(BUILD_ID, buffer), "build id");
    for (uint32_t op = 11; op <= 14; op++)
        expect(-ENOSYS, version(op, 0), named_number("a sub-op of later versions:", op));
    expect(-ENOSYS, version(99, 0), "an unknown sub-op");
}

void check_version(void)
{
    expect_hex(0x40011, (uint64_t)version(VERSION, 0), "version is 4.17");
    check_text(EXTRAVERSION, 16, "extraversion");
    check_text(COMPILE_INFO, 144, "compile info");
    check_text(CAPABILITIES, 1024, "capabilities");
    expect_true(holds("hvm-3.0-x86_64"), "capabilities name hvm-3.0-x86_64");
    expect_true(holds("hvm-3.0-x86_32"), "capabilities name hvm-3.0-x86_32");
    check_text(CHANGESET, 64, "changeset");
    check_text(PLATFORM_PARAMETERS, W(8, 4), "platform parameters");
    expect_hex(W(0xffff800000000000, 0), take(buffer, 0, W(8, 4)), "platform parameters, as of a PV domain of that width");
    uint32_t features[2] = {0, 0xeeeeeeee};
    expect(0, version(GET_FEATURES, features), "features 0 are told");
    expect_hex(0x12305, features[1], "features 0 are those of a PVH domain");
    features[0] = 1;
    expect(-EINVAL, version(GET_FEATURES, features), "features 1");
    expect(4096, version(PAGESIZE, 0), "page size");
    check_text(GUEST_HANDLE, 16, "guest handle");
    expect_true(!is_zero(buffer, 16), "guest handle is not all zero");
    check_text(COMMANDLINE, 1024, "command line");
    expect_true(holds("denied"), "command line is denied in words");
    check_errors();
}
