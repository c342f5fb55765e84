/* Carries out the steps of a program, and prints each: its number, its kind and its result. */
#include "fuzz.h"

enum {
    MAGIC = 0x5a465650, /* "PVFZ" */
    RING_STEPS = 61,
};

bool is_xen;

/* For who looks into the memory of a guest that hangs: the last steps that began. */
static volatile struct {
    uint32_t magic, seed, count, steps[RING_STEPS];
} ring;

/* Where an exception of each vCPU goes on. */
static void *resume[VCPUS][5];
static volatile bool is_guarded[VCPUS];
static volatile uint32_t exception[VCPUS];
static uint8_t *stack_of[VCPUS];

static const struct {
    const char *name;
    uint8_t share; /* of 256 */
    bool needs_xen;
    uint32_t (*run)(const struct step *);
} kinds[] = {
    {"call", 120, true, step_call}, {"ring", 16, true, step_ring},   {"vcpu", 16, true, step_vcpu},
    {"port", 28, false, step_port}, {"mmio", 16, false, step_mmio},  {"msr", 16, false, step_msr},
    {"cpuid", 12, false, step_cpuid}, {"lapic", 16, false, step_lapic}, {"tables", 16, false, step_tables},
};

static uint32_t kind_of(const struct step *step)
{
    uint32_t at = step->kind, count = sizeof kinds / sizeof kinds[0];
    for (uint32_t i = 0; i < count; i++) {
        if (at < kinds[i].share)
            return kinds[i].needs_xen && !is_xen ? 3u + step->a % 6 : i;
        at -= kinds[i].share;
    }
    return count - 1;
}

struct result guarded(const struct step *step, uint32_t me)
{
    uint8_t here;
    stack_of[me] = &here;
    if (__builtin_setjmp(resume[me]) != 0) {
        is_guarded[me] = false;
        return (struct result){exception[me], true};
    }
    is_guarded[me] = true;
    uint32_t value = kinds[kind_of(step)].run(step);
    is_guarded[me] = false;
    return (struct result){value, false};
}

/* Called by entry.S for an exception. The vCPU is the one on whose stack this runs. */
void fault(uint32_t vector, uint32_t error, uint32_t eip);

void fault(uint32_t vector, uint32_t error, uint32_t eip)
{
    uint8_t here;
    uint32_t me = 0;
    (void)error;
    for (uint32_t i = 1; i < VCPUS; i++)
        if (stack_of[i] != 0 && &here > stack_of[i] - 3500 && &here < stack_of[i] + 512)
            me = i;
    if (is_guarded[me]) {
        exception[me] = vector;
        __builtin_longjmp(resume[me], 1);
    }
    print("\n#failed: exception ");
    print_number(vector);
    print(" at ");
    print_hex(eip, 8);
    print("\n");
    guest_end();
}

static void run(const struct program *program, uint32_t number)
{
    struct step step = program_step(program, number);
    ring.steps[ring.count++ % RING_STEPS] = number;
    print("\n#");
    print_number(number);
    print(" ");
    print(kinds[kind_of(&step)].name);
    if (step.vcpu % VCPUS != 0 && is_xen) {
        print(".");
        print_number(step.vcpu % VCPUS);
    }
    print(" ");
    print_number(step.a);
    print(".");
    print_number(step.b);
    struct result result = carry_out(&step);
    print(result.is_exception ? " !" : " =");
    print_hex(result.value, 8);
}

void guest_main(void)
{
    struct program program = program_read();
    console_open();
    is_xen = xen_open();
    vcpus_open(is_xen);
    ring.magic = MAGIC;
    ring.seed = program.seed;
    print(is_xen ? "\n#fuzz xen seed " : "\n#fuzz plain seed ");
    print_number(program.seed);
    for (uint32_t number = 0; number < program.steps; number++)
        if (program_keeps(&program, number))
            run(&program, number);
    print("\n#end\n");
    guest_end();
}

void guest_end(void)
{
    if (!is_xen) {
        struct start_info info = read_start_info(at_entry.ebx);
        acpi_power_off(info.rsdp);
        return;
    }
    xen_shutdown(SHUTDOWN_POWEROFF);
}
