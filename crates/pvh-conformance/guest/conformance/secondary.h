/* Starting secondary vCPUs; secondary.S uses the offsets of the record. */
#ifndef SECONDARY_H
#define SECONDARY_H

#include "conformance.h"

enum { VCPUOP_INITIALISE, VCPUOP_UP, VCPUOP_DOWN, VCPUOP_IS_UP };
enum start_mode { START_16, START_REAL, START_32, START_32_PAGED, START_PAE, START_64, START_MODES };

struct record {
    uint64_t mark, cr0, cr3, cr4, efer, flags;
    uint64_t ax, cx, dx, bx, sp, bp, si, di;
    uint64_t cs, ds, ss, es;
    uint64_t is_up, counter, stop;
    uint64_t unused[11];
};
_Static_assert(sizeof(struct record) == 256, "secondary.S knows it");

extern volatile struct record records[4];
extern uint8_t hypercall_16[3]; /* the instruction with which 16-bit code calls */
extern const char start_16[], start_32[], start_64[]; /* secondary.S */

/* Fills in vcpu_hvm_context, 128 bytes. */
void build_context(uint8_t *context, enum start_mode mode, uint32_t vcpu);
int64_t vcpu_op(uint32_t op, uint32_t vcpu, uint32_t argument);
/* Sends INIT, waits until it has arrived, and initialises. */
int64_t initialise_after_init(uint32_t vcpu, const uint8_t *context);

#endif
