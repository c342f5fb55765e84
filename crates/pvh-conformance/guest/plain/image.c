/* The image in memory, as the file and the ABI say. */
#include "plain.h"

enum { FILE_WORD = 0x900dda7a, ZEROS = 20000 };

/* Data that the loader copies, and data that it clears. The linker keeps the order of neither, so both ends count. */
static volatile uint32_t copied[1025] = {[0] = FILE_WORD, [1024] = ~FILE_WORD};
static volatile uint8_t cleared[ZEROS];
static const volatile uint32_t constant = FILE_WORD ^ 0x55;

static bool is_clear(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (cleared[i] != 0)
            return false;
    return true;
}

static bool is_clear_between(void)
{
    for (uint32_t i = 1; i < 1024; i++)
        if (copied[i] != 0)
            return false;
    return true;
}

void check_image(void)
{
    group("image");
    clause("libelf: segments are copied from the file");
    equal("the first word of the data is the file's", FILE_WORD, copied[0]);
    equal("the last word of the data is the file's", (uint32_t)~FILE_WORD, copied[1024]);
    holds("the words between them are the file's", is_clear_between(), "zeros", copied[1]);
    equal("a constant is the file's", FILE_WORD ^ 0x55, constant);
    clause("libelf: memory past the bytes of the file is zero");
    holds("its first page is zero", is_clear(0, 4096), "zeros", cleared[0]);
    holds("its other pages are zero", is_clear(4096, ZEROS - 16), "zeros", cleared[4096]);
    holds("its last bytes are zero", is_clear(ZEROS - 16, ZEROS), "zeros", cleared[ZEROS - 1]);
}
