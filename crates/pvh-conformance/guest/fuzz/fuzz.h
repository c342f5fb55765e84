/* The fuzz guest: it carries out the steps of a program, which a seed grows or a module holds. */
#ifndef FUZZ_H
#define FUZZ_H

#include "../start_info.h"
#include "../xen.h"

enum {
    VCPUS = 4,
    /* What a step may change lies from 8 to 16 MiB: the image and its stacks are below. */
    ARENA = 0x800000,
    ARENA_BYTES = 0x800000,
    /* The same memory once more, by page-table entries that steps change. */
    ALIAS = 0x40000000,
    /* Where a start-up interrupt begins: code that halts. */
    TRAMPOLINE = 0x90000,
    WORDS = 4,
};

/* One step: 16 bytes, as in a module. */
struct step {
    uint8_t kind, vcpu, a, b;
    uint32_t words[WORDS - 1];
};

/* The result of a step: a value, or an exception. */
struct result {
    uint32_t value;
    bool is_exception;
};

/* random.c: numbers that depend on a step alone, so that a step does the same without the others. */
void random_start(uint32_t seed, uint32_t step);
uint32_t random_word(void);
uint32_t random_below(uint32_t count);
/* A number that is a small one, a domain, a frame, an address or anything else, but never a place of the image. */
uint32_t random_argument(void);
/* An address of the arena, aligned to 8. */
uint32_t random_place(void);

/* program.c */
struct program {
    uint32_t seed, steps, module, module_bytes, keep;
};
struct program program_read(void);
bool program_keeps(const struct program *program, uint32_t step);
struct step program_step(const struct program *program, uint32_t step);

/* calls.c */
uint32_t step_call(const struct step *step);
/* machine.c: everything that is not a hypercall. */
uint32_t step_port(const struct step *step);
uint32_t step_mmio(const struct step *step);
uint32_t step_msr(const struct step *step);
uint32_t step_cpuid(const struct step *step);
uint32_t step_lapic(const struct step *step);
uint32_t step_tables(const struct step *step);
/* rings.c */
uint32_t step_ring(const struct step *step);
/* vcpus.c */
void vcpus_open(bool is_xen);
uint32_t step_vcpu(const struct step *step);
/* Has a vCPU carry out a step, if it is there and answers; else the first one does. */
struct result carry_out(const struct step *step);
/* main.c: carries out a step here, and takes an exception for its result. */
struct result guarded(const struct step *step, uint32_t me);
extern bool is_xen;

#endif
