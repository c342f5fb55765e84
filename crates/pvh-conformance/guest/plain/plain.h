/* Shared by the files of the plain guest, which checks a PVH machine without any help of a hypervisor. */
#ifndef PLAIN_H
#define PLAIN_H

#include "../guest.h"
#include "../start_info.h"

/* ---- report.c: TAP 14, one line for each check; a failed one is followed by clause, wanted and seen ---- */

void report_begin(void);
/* Prints the plan. Nothing is checked after it. */
void report_end(void);
/* Sets the prefix of the names of the next checks. */
void group(const char *name);
/* Sets the clause of the next checks: the text that demands them, and which part of it. */
void clause(const char *text);
/* The next value is exactly this one. */
void equal(const char *name, uint64_t want, uint64_t seen);
void bits_clear(const char *name, uint64_t value, uint64_t bits);
void bits_set(const char *name, uint64_t value, uint64_t bits);
/* For what no single value shows: `wanted` in words, and the value that tells most. */
void holds(const char *name, bool good, const char *wanted, uint64_t seen);
void skip(const char *name, const char *why);
/* A line that is no check: "# <name>: ". The caller ends it. */
void note(const char *name);
void note_hex(const char *name, uint64_t value, unsigned digits);
/* Joins parts of a name; valid until the next call. */
const char *named(const char *what, uint32_t number, const char *of);
bool is_same(const char *a, const char *b);

/* ---- capture.c: what was there before the guest changed anything ---- */

enum place {
    IN_IMAGE, FAR_RAM, LAST_RAM, LAPIC_PAGE, PLACES,
};

enum probe {
    DS_READ, DS_WRITE, ES_READ, ES_WRITE, SS_READ, SS_WRITE, CS_READ, CS_EXECUTE, PROBES,
};

/* What a probe saw. */
enum saw {
    ABSENT_PLACE, GOOD, OTHER_MEMORY, FAULTED, UNKNOWABLE,
};

enum {
    LAPIC_REGISTERS = 0x40,
    LAPIC = 0xfee00000,
    LAPIC_ID = 0x20, LAPIC_VERSION = 0x30, LAPIC_SVR = 0xf0, LAPIC_ICR = 0x300, LAPIC_ICR_HIGH = 0x310,
    LAPIC_TIMER = 0x320, LAPIC_TIMER_INITIAL = 0x380, LAPIC_TIMER_CURRENT = 0x390, LAPIC_TIMER_DIVIDE = 0x3e0,
    MTRR_FIXED = 11, MTRR_VARIABLE_LIMIT = 16,
    MSR_APIC_BASE = 0x1b, MSR_MTRR_CAP = 0xfe, MSR_MTRR_DEF_TYPE = 0x2ff, MSR_PAT = 0x277,
};
#define MSR_EFER 0xc0000080u

struct captured {
    uint8_t saw[PLACES][PROBES];
    uint32_t place[PLACES];
    uint32_t pushed_esp;        /* after a push at the end of a 64 KiB block */
    uint32_t dr[8];
    bool has_lapic, has_mtrrs, has_pat, has_long_mode;
    uint64_t efer, apic_base, mtrr_cap, mtrr_def_type, pat;
    uint64_t mtrr_fixed[MTRR_FIXED];
    uint64_t mtrr_base[MTRR_VARIABLE_LIMIT], mtrr_mask[MTRR_VARIABLE_LIMIT];
    uint32_t mtrr_variables;
    uint32_t lapic[LAPIC_REGISTERS]; /* one for each 16 bytes of its page */
};

extern struct captured captured;

void capture_lapic(void);
/* There is one multiple of 64 KiB in it, where a stack of the probe begins. */
extern uint8_t push_area[];
#define PUSH_TOP (((uint32_t)push_area + 0x10000) & 0xffff0000)

/* ---- entry.S ---- */

uint32_t push_at(uint32_t top);
void triple_fault(void) __attribute__((noreturn));
extern const uint8_t ap_start[], ap_end[];
extern volatile uint32_t probe_resume, probe_esp, probe_fault, probe_word;

/* Runs one instruction that may fault; probe_fault is its vector then, and NO_FAULT otherwise. */
#define NO_FAULT 0xffffffffu
#define PROBE(instruction, outputs, inputs)                                                     \
    do {                                                                                        \
        probe_fault = NO_FAULT;                                                                 \
        __asm__ volatile("movl $1f, probe_resume\n\tmovl %%esp, probe_esp\n\t" instruction      \
                         "\n1:\tmovl $0, probe_resume" : outputs : inputs : "memory", "cc");    \
    } while (0)

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

/* ---- machine.c: the start info and the memory map, read with care ---- */

enum { MODULES_LIMIT = 16, MEMMAP_LIMIT = 128, CMDLINE_LIMIT = 65536 };

extern struct start_info start;
extern bool has_start;
extern uint32_t memmap_count;   /* entries that can be read */
extern uint32_t module_count;   /* modules that can be read */
bool reachable(uint64_t at, uint64_t bytes);
struct memmap_entry memmap_entry(uint32_t index);
struct module module_entry(uint32_t index);
/* Whether one entry of the map of this type covers it; `any_type` for whatever type. */
enum { ANY_TYPE = 0 };
bool is_mapped_as(uint64_t at, uint64_t bytes, uint32_t type);
/* Whether it shares a byte with an entry of this type. */
bool touches(uint64_t at, uint64_t bytes, uint32_t type);
/* The bytes of a text without its NUL; CMDLINE_LIMIT if none ends it. */
uint32_t text_bytes(uint32_t at);
/* The text after `key` at the beginning of a word of a text in memory; 0 if there is none. */
uint32_t value_of(uint64_t text, const char *key);
void read_machine(void);
/* A thing in memory that must not lie over another. */
struct thing {
    const char *name;
    uint64_t at, bytes;         /* no bytes: it is not there */
};
bool overlap(struct thing a, struct thing b);

/* ---- tables.c ---- */

extern uint32_t fadt, madt;     /* 0 if there is none, or none that can be read */
/* Calls `visit` with each entry of the MADT that is whole. */
void each_madt_entry(void (*visit)(uint32_t at, uint8_t type, uint8_t bytes));
bool dsdt_names(uint32_t id);

/* ---- sha256.c ---- */

void sha256(uint32_t at, uint32_t bytes, uint8_t digest[32]);

/* ---- output.c: COM1, the Xen console, or port 0xE9 ---- */

void open_output(void);
void flush_output(void);

/* ---- the groups, in the order in which they run ---- */

void check_image(void);
void check_entry(void);
void check_segments(void);
void check_msrs(void);
void check_lapic(void);
void check_cpuid(void);
void check_start_info(void);
void check_memory(void);
void check_modules(void);
void check_acpi(void);
void check_madt(void);
void check_processors(void);
void check_devices(void);

/* ---- end.c ---- */

void end_machine(void);

#endif
