/* The first instructions of a guest image: they save the registers before anything changes them. */

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10
#define STACK_BYTES 16384
#define VECTORS 32

        .section .note.Xen, "a", @note
        .balign 4
        .long 2f - 1f                   /* name size */
        .long 4f - 3f                   /* descriptor size */
        .long XEN_ELFNOTE_PHYS32_ENTRY
1:      .asciz "Xen"
2:      .balign 4
3:      .long entry
4:      .balign 4

        .text
        .code32
        .globl entry
        .type entry, @function
entry:
#include "save_registers.inc"

        /* Our own tables, so that a fault can be reported. No segment is loaded from them before a fault. */
        cld
        call fill_idt
        lgdt gdt_pointer
        lidt idt_pointer
        call guest_main
halt:
        cli
        hlt
        jmp halt

#include "fill_idt.inc"

#include "fault_stubs.inc"

fault_entry:
        /* The segments may have caused the fault. */
        movw $DATA_SELECTOR, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        cld
        call fault                      /* the stack holds vector, error code and eip, in this order */
        jmp halt

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        /* code: base 0, limit 4 GiB */
        .quad 0x00cf93000000ffff        /* data: base 0, limit 4 GiB */
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
idt_pointer:
        .word VECTORS * 8 - 1
        .long idt

        .bss
        .balign 16
        .skip STACK_BYTES
stack_top:
        .balign 8
idt:    .skip VECTORS * 8
        .globl at_entry
at_entry:
        .skip 80

        .section .note.GNU-stack, "", @progbits
