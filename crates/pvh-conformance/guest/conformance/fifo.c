/* Event channels, FIFO. */
#include "conformance.h"

enum { HEADS = 8, WORDS_PER_PAGE = 1024, ARRAY_PAGES = 128, DEFAULT_PRIORITY = 7, OFFSET = 512 };
#define PENDING (1u << 31)
#define MASKED (1u << 30)
#define LINKED (1u << 29)
#define BUSY (1u << 28)
#define LINK 0x1ffffu

static volatile uint32_t *words;
static uint8_t *blocks;
static uint32_t frames; /* the array's first page, the control blocks, a page for the rest of the array */

static int64_t init_control(uint32_t gfn, uint32_t offset, uint32_t vcpu, uint32_t *link_bits)
{
    volatile uint32_t op[6] = {gfn, 0, offset, vcpu, 0xff, 0};
    int64_t result = event_op(EVENT_INIT_CONTROL, (void *)op);
    *link_bits = op[4] & 0xff;
    return result;
}

static int64_t expand_array(uint32_t gfn)
{
    volatile uint32_t op[2] = {gfn, 0};
    return event_op(EVENT_EXPAND_ARRAY, (void *)op);
}

static int64_t set_priority(uint32_t port, uint32_t priority)
{
    volatile uint32_t op[2] = {port, priority};
    return event_op(EVENT_SET_PRIORITY, (void *)op);
}

static uint32_t ready(uint32_t vcpu)
{
    return (uint32_t)take(blocks + vcpu * OFFSET, 0, 4);
}

static uint32_t head(uint32_t vcpu, uint32_t priority)
{
    return (uint32_t)take(blocks + vcpu * OFFSET, HEADS + 4 * priority, 4);
}

/* Handles the event at the head of a queue, as a guest does. */
static void consume(uint32_t port)
{
    __asm__ volatile("lock andl %1, %0" : "+m"(words[port]) : "r"(~(PENDING | LINKED | LINK)) : "memory");
}

static void forget(void)
{
    put(blocks, 0, 4, 0);
    settle();
}

static void check_start(void)
{
    uint32_t bits;
    frames = scratch_frames(4);
    words = frame(frames);
    blocks = frame(frames + 1);
    memset((void *)words, 0, 3 * PAGE);
    uint32_t early = bind_ipi(0);
    for (uint32_t port = 0; port < WORDS_PER_PAGE; port++)
        words[port] = port == early ? 0 : MASKED; /* events of other ports stay out of the queues */
    expect(0, init_control(frames + 1, 0, 0, &bits), "init_control");
    expect(17, bits, "it tells 17 link bits");
    expect(-EINVAL, init_control(frames + 1, 0, 0, &bits), "init_control again");
    expect(0, init_control(frames + 1, OFFSET, 1, &bits), "init_control of vCPU 1 in the same frame");
    settle();
    expect(0, event_port_op(EVENT_SEND, early), "send before there is an array");
    expect(0, *upcall_pending(0), "it raises nothing");
    expect(-EINVAL, expand_array(HOLE_GFN + 4), "expand_array with a hole");
    expect(0, expand_array(frames), "expand_array");
    expect_hex(PENDING | LINKED, words[early], "the early event is linked");
    expect(early, head(0, DEFAULT_PRIORITY), "it is the head of queue 7");
    expect_hex(1 << DEFAULT_PRIORITY, ready(0), "queue 7 is ready");
    expect(1, *upcall_pending(0), "the upcall flag is set");
    consume(early);
    forget();
    for (uint32_t port = early; port < WORDS_PER_PAGE; port++)
        words[port] = 0;
    event_port_op(EVENT_CLOSE, early);
}

static void check_queue(void)
{
    uint32_t a = bind_ipi(0), b = bind_ipi(0), c = bind_ipi(0);
    expect(0, event_port_op(EVENT_SEND, a), "send");
    expect_hex(PENDING | LINKED, words[a], "the event pends and is linked");
    expect(a, head(0, DEFAULT_PRIORITY), "it is the head");
    event_port_op(EVENT_SEND, b);
    expect_hex(PENDING | LINKED | b, words[a], "a second one is linked behind it");
    expect(a, head(0, DEFAULT_PRIORITY), "the head stays");
    forget();
    event_port_op(EVENT_SEND, c);
    expect(0, *upcall_pending(0), "behind a live tail there is no upcall");
    expect_hex(PENDING | LINKED | c, words[b], "the third is linked behind the second");
    event_port_op(EVENT_SEND, a);
    expect_hex(PENDING | LINKED | b, words[a], "an event that pends is not linked again");
    consume(a);
    consume(b);
    consume(c);
    event_port_op(EVENT_SEND, c);
    expect(c, head(0, DEFAULT_PRIORITY), "after the queue was emptied the next is its head");
    expect_hex(PENDING | LINKED, words[c], "and linked to nothing");
    expect(1, *upcall_pending(0), "and raises the upcall");
    consume(c);
    forget();
    event_port_op(EVENT_CLOSE, a);
    event_port_op(EVENT_CLOSE, b);
    event_port_op(EVENT_CLOSE, c);
}

static void check_masks(void)
{
    uint32_t port = bind_ipi(0);
    words[port] |= MASKED;
    expect(0, event_port_op(EVENT_SEND, port), "send on a masked port");
    expect_hex(PENDING | MASKED, words[port], "it pends and is not linked");
    expect(0, *upcall_pending(0), "it raises nothing");
    expect(0, event_port_op(EVENT_UNMASK, port), "unmask");
    expect_hex(PENDING | LINKED, words[port], "the mask is gone and it is linked");
    expect(1, *upcall_pending(0), "it raises the upcall");
    consume(port);
    forget();
    words[port] |= PENDING;
    expect(0, event_port_op(EVENT_UNMASK, port), "unmask of a port that the guest set pending");
    expect_hex(PENDING | LINKED, words[port], "it is linked, though it was not masked");
    consume(port);
    forget();
    expect(0, event_port_op(EVENT_UNMASK, port), "unmask of an idle port");
    expect_hex(0, words[port], "nothing happens to it");
    event_port_op(EVENT_SEND, port);
    expect(0, event_port_op(EVENT_CLOSE, port), "close of a linked port");
    expect_hex(LINKED, words[port], "it stays linked and does not pend");
    expect_true(bind_ipi(0) != port, "its number is not given out");
    consume(port);
    forget();
}

static void check_priorities(void)
{
    uint32_t port = bind_ipi(0);
    expect(0, set_priority(port, 3), "set_priority");
    event_port_op(EVENT_SEND, port);
    expect(port, head(0, 3), "the event is in queue 3");
    expect_hex(1 << 3, ready(0), "queue 3 is ready");
    consume(port);
    forget();
    expect(0, set_priority(port, 0), "set_priority to the highest");
    expect(0, set_priority(port, 15), "set_priority to the lowest");
    expect(-EINVAL, set_priority(port, 16), "set_priority to 16");
    expect(-EINVAL, set_priority(0x20000, 3), "set_priority of no port");
    event_port_op(EVENT_CLOSE, port);
    expect(-EACCES, set_priority(port, 3), "set_priority of a closed port");
    uint32_t other = bind_ipi(1);
    event_port_op(EVENT_SEND, other);
    expect(other, head(1, DEFAULT_PRIORITY), "an event of vCPU 1 is in its queue");
    expect(0, *upcall_pending(0), "and is none of vCPU 0's");
    consume(other);
    event_port_op(EVENT_CLOSE, other);
    uint32_t lost = bind_ipi(2);
    event_port_op(EVENT_SEND, lost);
    expect_hex(0, words[lost], "an event of a vCPU without a control block is lost");
    event_port_op(EVENT_CLOSE, lost);
}

static void check_end(void)
{
    int64_t result = 0;
    uint32_t pages = 1;
    while (pages <= ARRAY_PAGES && (result = expand_array(frames + 2)) == 0)
        pages++;
    expect(-ENOSPC, result, "expand_array past the last page");
    expect(ARRAY_PAGES, pages, "the array has 128 pages");
    uint16_t self = DOMID_SELF;
    expect(0, event_op(EVENT_RESET, &self), "reset");
    console_ring_rebind();
    expect(-EOPNOTSUPP, expand_array(frames), "after it there is no FIFO");
    uint32_t port = bind_ipi(0);
    settle();
    event_port_op(EVENT_SEND, port);
    expect_true(is_pending(port), "but two levels");
    clear_pending(port);
    event_port_op(EVENT_CLOSE, port);
    uint32_t bits;
    memset((void *)words, 0, 3 * PAGE);
    expect(0, init_control(frames + 1, 0, 0, &bits), "init_control after a reset");
    expect(0, event_op(EVENT_RESET, &self), "reset again");
    console_ring_rebind();
}

void check_fifo(void)
{
    check_start();
    check_queue();
    check_masks();
    check_priorities();
    check_end();
}
