/* Hypercalls with typed and with wild arguments. */
#include "fuzz.h"

enum {
    MEMORY_OP = 12,
    MULTICALL = 13,
    CONSOLE_IO = 18,
    HVM_OP = 34,
    SCHED_POLL = 3,
    PARAM_VM86_TSS = 15,
    PARAM_VM86_TSS_SIZED = 37,
    SET_PARAM = 0,
    INITIALISE = 0,
    DOWN = 2,
    SEND_NMI = 11, /* an NMI between two steps could not return: some machines do not support IRET */
    ENTRIES = 4,
};

/* Numbers of calls, and how many sub-operations each has. */
static const struct {
    uint8_t number, ops;
} calls[] = {{12, 28}, {13, 0}, {15, 0}, {17, 14}, {18, 2}, {20, 13}, {21, 4}, {24, 14}, {29, 8}, {32, 15}, {33, 32}, {34, 26}};

static void fill(uint32_t at, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++)
        *(volatile uint32_t *)(at + 4 * i) = random_argument();
}

/* Changes a call that would end the guest, or let it sleep for good, into one that does not. */
static void tame(uint32_t *number, uint32_t *args)
{
    uint32_t op = args[0];
    if (*number == SCHED_OP && op == SCHED_POLL) {
        /* No port, and a time that has passed. */
        *(volatile uint32_t *)ARENA = 0;
        *(volatile uint32_t *)(ARENA + 4) = 0;
        *(volatile uint32_t *)(ARENA + 8) = 1;
        *(volatile uint32_t *)(ARENA + 12) = 0;
        args[1] = ARENA;
    } else if (*number == SCHED_OP && op != 4) {
        args[0] = 0;
    }
    if (*number == VCPU_OP && (op == DOWN || op == INITIALISE || op == SEND_NMI))
        args[0] = 3; /* is_up; step_vcpu does these */
    if (*number == HVM_OP && op == SET_PARAM && args[1] >= ARENA && args[1] < ARENA + ARENA_BYTES) {
        uint32_t param = read32(args[1] + 4);
        if (param == PARAM_VM86_TSS || param == PARAM_VM86_TSS_SIZED)
            *(volatile uint32_t *)(args[1] + 4) = 1;
    } else if (*number == HVM_OP && op == SET_PARAM) {
        args[0] = 1;
    }
    if (*number == CONSOLE_IO)
        args[1] &= 31;
    if (*number == 6) /* the call before sched_op: its first operations are the same */
        *number = 17;
}

static uint32_t one(uint8_t a, uint8_t b, const uint32_t *words)
{
    uint32_t place = random_place() & ~0xfffu;
    uint32_t number = calls[a % (sizeof calls / sizeof calls[0])].number;
    uint32_t ops = calls[a % (sizeof calls / sizeof calls[0])].ops;
    uint32_t args[3] = {b % (ops + 1), place, words[1] & 3};
    fill(place, 16);
    if (number == MEMORY_OP && (b & 1)) {
        /* A list of frames, their number, their order, and the guest itself. */
        *(volatile uint32_t *)place = place + 64;
        *(volatile uint32_t *)(place + 4) = words[0] & 7;
        *(volatile uint32_t *)(place + 8) = words[1] & 3;
        *(volatile uint32_t *)(place + 16) = 0x7ff0;
    }
    if (number == VCPU_OP)
        args[0] = b % 14, args[1] = words[0] % (VCPUS + 1), args[2] = place;
    if (number == HVM_OP)
        *(volatile uint32_t *)place = 0x7ff0;
    if (number == 20)
        args[1] = place;
    if (number == CONSOLE_IO)
        args[1] = words[0] & 31, args[2] = place;
    if (number == 15)
        args[0] = words[0], args[1] = words[1] & 0xff;
    if (a >= 0xe0) {
        /* Wild. */
        number = words[2] % 64;
        args[1] = words[0];
        args[2] = words[1];
    }
    tame(&number, args);
    if (number == MULTICALL) {
        uint32_t count = (b & 3) + 1;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t entry = place + i * 32, inner = 17, inner_args[3] = {words[0] % 14, place + 2048, 0};
            switch (random_below(3)) {
            case 0:
                inner = 32, inner_args[0] = random_below(15);
                break;
            case 1:
                inner = SCHED_OP, inner_args[0] = 0;
                break;
            }
            tame(&inner, inner_args);
            *(volatile uint32_t *)entry = inner;
            for (uint32_t j = 0; j < 3; j++)
                *(volatile uint32_t *)(entry + 8 + 4 * j) = inner_args[j];
        }
        args[0] = place, args[1] = count;
    }
    return (uint32_t)xen_call(number, args[0], args[1], args[2]);
}

uint32_t step_call(const struct step *step)
{
    return one(step->a, step->b, step->words);
}
