/* Shared by the files of the conformance guest. Paging is off, or maps every address to itself. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "../guest.h"

/* Xen's error numbers. */
enum {
    EPERM = 1, ENOENT = 2, ESRCH = 3, ENXIO = 6, E2BIG = 7, ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16,
    EEXIST = 17, EXDEV = 18, ENODEV = 19, EINVAL = 22, ENOSPC = 28, ERANGE = 34, ENOSYS = 38, ETIME = 62, EOPNOTSUPP = 95,
};

enum hypercall_number {
    MEMORY_OP = 12, MULTICALL = 13, SET_TIMER_OP = 15, XEN_VERSION = 17, CONSOLE_IO = 18, GRANT_TABLE_OP = 20,
    VM_ASSIST = 21, IRET = 23, VCPU_OP = 24, SCHED_OP = 29, EVENT_CHANNEL_OP = 32, PHYSDEV_OP = 33, HVM_OP = 34,
    XENPMU_OP = 40, HYPERCALLS = 64,
};

enum {
    DOMID_SELF = 0x7ff0,
    DOMID_NONE = 0x6123,       /* a domain that does not exist */
    BACKEND = 0,               /* another domain that exists */
    NO_VCPU = 99,
    PAGE = 4096,
    HOLE_GFN = 0xf0000,        /* neither RAM nor a device */
    SCRATCH_GFN = 0x1000,      /* the checks may overwrite RAM from 16 MiB on */
};

/* A pointer that makes every copy fail. */
#define BAD ((uint32_t)HOLE_GFN << 12)
#define AT(object) ((uint32_t)(object))
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- tap.c: the report, one check per line ---- */

void report_begin(void);
void report_end(void);
/* Sets the prefix of the next checks: "<mode> <section>: ". */
void begin_section(const char *name);
void expect(int64_t want, int64_t got, const char *name);
void expect_hex(uint64_t want, uint64_t got, const char *name);
void expect_true(bool good, const char *name);
/* Reports a check that cannot be made here, and the reason. */
void gap(const char *name, const char *why);
/* Joins two parts of a name; valid until the next call. */
const char *named(const char *what, const char *of);
const char *named_number(const char *what, uint32_t number);

/* ---- options.c: the command line, `only=a,b`, `no=a,b` ---- */

void read_options(uint32_t start_info);
bool wanted(const char *section);

/* ---- call.c: hypercalls in the current mode ---- */

extern bool wide;              /* calls are made from a 64-bit code segment */
extern bool narrow;            /* calls are made from a 16-bit code segment */
extern uint8_t hypercall_page[PAGE];
extern uint32_t xen_leaves;    /* the first of Xen's CPUID leaves, 0 if there are none */

bool find_xen(void);
void fill_hypercall_page(void);
int64_t call(uint32_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);
#define call1(number, a) call(number, a, 0, 0, 0, 0)
#define call2(number, a, b) call(number, a, b, 0, 0, 0)
#define call3(number, a, b, c) call(number, a, b, c, 0, 0)
/* Turns on long mode for the calls that follow, or off again. */
void use_long_mode(bool on);
/* The offset of a field whose layouts differ: for 64-bit callers, and for others. */
#define W(native, compat) (wide ? (native) : (compat))
void put(void *structure, uint32_t offset, uint32_t bytes, uint64_t value);
void put_pointer(void *structure, uint32_t offset, uint32_t address);
uint64_t take(const void *structure, uint32_t offset, uint32_t bytes);
bool is_zero(const void *from, uint32_t bytes);

/* Frames that nothing else uses. */
uint32_t scratch_frames(uint32_t count);
void *frame(uint32_t gfn);

/* ---- entry.S ---- */

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

struct call64 {
    uint64_t number, args[5];
};
uint64_t call64(const struct call64 *args);
extern uint8_t code_16[8];     /* entry.S: the descriptor of a 16-bit segment that begins at start_16 */
/* Makes a call from 16-bit code. */
uint32_t call16(uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e);
uint32_t call32(uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e);
/* Makes a call from CPL 3. */
uint32_t call32_user(uint32_t number, uint32_t a, uint32_t b);
/* False if the instruction faulted. */
bool try_write_msr(uint32_t msr, uint32_t low, uint32_t high);
void long_mode_on(uint32_t root);
void long_mode_off(void);
/* Allows interrupts for a moment. */
void breathe(void);
/* Interrupts on, then SCHEDOP_block, then off. */
uint32_t call_with_interrupts(uint32_t number, uint32_t a, uint32_t b);
uint32_t paging_on(uint32_t root, uint32_t cr4);
void paging_off(void);

/* ---- paging.c: page tables that map each address below 4 GiB to itself ---- */

void build_page_tables(void);
uint32_t root_of_4_levels(void);
uint32_t root_of_pae(void);
uint32_t root_of_2_levels(void);
/* Whether this machine supports paging outside long mode; some emulations do not. */
bool pages_32_bit_code(void);

/* ---- ring.c: the PV console ---- */

/* Finds the ring and the port; the report goes there from then on. */
bool console_ring_open(void);
void console_ring_flush(void);
/* The back end's port, needed to bind the ring's port again after a reset. */
void console_ring_rebind(void);
uint32_t console_port(void);

/* ---- shared.c: the shared info page and its content ---- */

extern uint8_t *shared_info;
extern bool shared_wide;       /* its layout: latched when the hypercall page was written */
extern uint8_t *vcpu_info[4];

int64_t map_shared_info(uint32_t gfn);
volatile uint8_t *upcall_pending(uint32_t vcpu);
uint64_t pending_selector(uint32_t vcpu);
void clear_selector(uint32_t vcpu);
bool is_pending(uint32_t port);
void clear_pending(uint32_t port);
void set_mask(uint32_t port, bool masked);
bool is_masked(uint32_t port);
/* Clears pending events on vCPU 0, so that the next event raises the flag. */
void settle(void);
/* Tolerance in ns: Xen may end a timer a little early, and the clocks of two CPUs may differ. */
#define SLOP 2000000
/* System time in ns, from HVMOP_get_time. */
uint64_t now(void);
/* Spins, without changing the interrupt flag. */
void wait_ms(uint32_t ms);
bool wait_until(bool (*done)(void), uint32_t ms);

/* ---- events.c ---- */

int64_t event_op(uint32_t op, void *argument);
int64_t event_port_op(uint32_t op, uint32_t port);
uint32_t bind_ipi(uint32_t vcpu);
uint32_t bind_timer(void);
enum {
    EVENT_BIND_INTERDOMAIN, EVENT_BIND_VIRQ, EVENT_BIND_PIRQ, EVENT_CLOSE, EVENT_SEND, EVENT_STATUS,
    EVENT_ALLOC_UNBOUND, EVENT_BIND_IPI, EVENT_BIND_VCPU, EVENT_UNMASK, EVENT_RESET, EVENT_INIT_CONTROL,
    EVENT_EXPAND_ARRAY, EVENT_SET_PRIORITY, EVENT_RESET_CONT,
};

/* ---- hvm.c ---- */

int64_t set_param(uint32_t index, uint64_t value);
int64_t get_param(uint32_t index, uint64_t *value);
enum { PARAM_CALLBACK_IRQ = 0, PARAM_STORE_EVTCHN = 2, PARAM_CONSOLE_PFN = 17, PARAM_CONSOLE_EVTCHN = 18 };

/* ---- upcall.c ---- */

enum { VECTOR_GLOBAL = 0x40, VECTOR_VCPU = 0x41, VECTOR_SPURIOUS = 0x4f };
extern volatile uint32_t interrupts[16];  /* number taken, indexed by vector - 0x40 */
extern volatile uint32_t nmis;
extern volatile uint32_t handled_port; /* cleared by each interrupt that finds it pending */
extern volatile uint32_t handled;      /* the number of such interrupts */
void lapic_enable(bool on);
/* Makes events interrupt vCPU 0 through its local APIC. */
void use_upcalls(void);
void lapic_send_init(uint32_t apic_id);

/* ---- the sections ---- */

void check_platform(void);
void check_version(void);
void check_memory(void);
void check_add_to_physmap(void);
void check_params(void);
void check_hvm_op(void);
void check_events(void);
void check_event_errors(void);
void check_fifo(void);
void check_upcalls(void);
void check_sched(void);
void check_timers(void);
void check_vcpu(void);
void check_clock(void);
void check_grants(void);
void check_misc(void);
void check_multicall(void);
void check_contexts(void);
void check_secondaries(void);
void check_secondary_modes(void);
void list_gaps(void);

#endif
