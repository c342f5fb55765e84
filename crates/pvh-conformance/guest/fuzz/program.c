/* The program: of a module, or grown from a seed; and the steps of it that are kept. */
#include "fuzz.h"

/* The place after `name` in the command line; 0 if it is not there. */
static uint32_t option(const char *name)
{
    uint32_t at = (uint32_t)read_start_info(at_entry.ebx).cmdline;
    for (; at != 0 && read8(at) != 0; at++) {
        uint32_t i = 0;
        while (name[i] != 0 && read8(at + i) == (uint8_t)name[i])
            i++;
        if (name[i] == 0)
            return at + i;
    }
    return 0;
}

/* A decimal number; `at` moves behind it. */
static uint32_t number(uint32_t *at)
{
    uint32_t value = 0;
    for (; read8(*at) >= '0' && read8(*at) <= '9'; (*at)++)
        value = value * 10 + (read8(*at) - '0');
    return value;
}

enum { LIST_BYTES = 2048 };

/* A copy, because steps may overwrite the command line. */
static char keep_list[LIST_BYTES];

struct program program_read(void)
{
    struct program program = {.seed = 1, .steps = 100};
    struct start_info info = read_start_info(at_entry.ebx);
    uint32_t at = option("seed=");
    if (at != 0)
        program.seed = number(&at);
    at = option("steps=");
    if (at != 0)
        program.steps = number(&at);
    if (info.module_count > 0) {
        struct module module = read_module((uint32_t)info.modules);
        program.module = (uint32_t)module.at;
        program.module_bytes = (uint32_t)module.size;
        program.steps = program.module_bytes / sizeof(struct step);
    }
    at = option("keep=");
    if (at != 0) {
        uint32_t i = 0;
        for (; i < LIST_BYTES - 1 && read8(at + i) > ' '; i++)
            keep_list[i] = (char)read8(at + i);
        keep_list[i] = 0;
        program.keep = (uint32_t)keep_list;
    }
    return program;
}

/* "keep=3,5-9": these steps; without it, all. */
bool program_keeps(const struct program *program, uint32_t step)
{
    uint32_t at = program->keep;
    if (at == 0)
        return true;
    while (read8(at) != 0) {
        uint32_t first = number(&at), last = first;
        if (read8(at) == '-') {
            at++;
            last = number(&at);
        }
        if (step >= first && step <= last)
            return true;
        if (read8(at) != ',')
            break;
        at++;
    }
    return false;
}

struct step program_step(const struct program *program, uint32_t number_of_step)
{
    struct step step;
    random_start(program->seed, number_of_step);
    if (program->module != 0) {
        uint8_t *to = (uint8_t *)&step;
        for (uint32_t i = 0; i < sizeof step; i++)
            to[i] = read8(program->module + number_of_step * sizeof step + i);
        random_start(step.words[0], step.words[1]);
        return step;
    }
    uint32_t head = random_word();
    step = (struct step){.kind = (uint8_t)head, .vcpu = (uint8_t)(head >> 8), .a = (uint8_t)(head >> 16), .b = (uint8_t)(head >> 24)};
    for (uint32_t i = 0; i < WORDS - 1; i++)
        step.words[i] = random_argument();
    return step;
}
