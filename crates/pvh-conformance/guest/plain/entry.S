/* The first instructions of the plain guest: they save what the machine gave it before anything changes. */

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CODE_SELECTOR 0x08
#define DATA_SELECTOR 0x10
#define STACK_BYTES 16384
#define AP_STACK_BYTES 4096
#define VECTORS 32
#define CR0_PE 1
#define CR0_CACHING 0x9fffffff          /* CD and NW clear */

        .section .note.Xen, "a", @note
        .balign 4
        .long 2f - 1f                   /* name size */
        .long 4f - 3f                   /* descriptor size */
        .long XEN_ELFNOTE_PHYS32_ENTRY
1:      .asciz "Xen"
2:      .balign 4
3:      .long entry
#ifdef ELF64
        .long 0                         /* QEMU reads 8 bytes of the note of a 64-bit file */
#endif
4:      .balign 4

        .text
        .code32
        .globl entry
        .type entry, @function
entry:
#include "../save_registers.inc"

        cld
        call fill_idt
        lgdt gdt_pointer
        lidt idt_pointer
        call capture                    /* still on the segments that the machine gave */
        movw $DATA_SELECTOR, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        ljmp $CODE_SELECTOR, $1f
1:      call guest_main
halt:
        cli
        hlt
        jmp halt

#include "../fill_idt.inc"

#include "../fault_stubs.inc"

        /* A fault that a probe expects goes on where the probe says; every register is as at the fault. */
fault_entry:
        cmpl $0, probe_resume
        je 1f
        popl probe_fault
        movl probe_esp, %esp
        jmp *probe_resume
1:      movw $DATA_SELECTOR, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        cld
        call fault                      /* the stack holds vector, error code and eip, in this order */
        jmp halt

        /* Pushes a word on a stack that begins at a multiple of 64 KiB: a 16-bit stack wraps around there. */
        .globl push_at
push_at:
        movl 4(%esp), %ecx
        movl %esp, %edx
        movl %ecx, %esp
        pushl $0x57ac4b17
        movl %esp, %eax
        movl %edx, %esp
        ret

        /* Shuts the CPU down: an exception without a table to look it up in. */
        .globl triple_fault
triple_fault:
        lidt no_idt
        ud2
        jmp halt

        /* A secondary processor begins here, in real mode, at a page below 1 MiB; this code is copied there. */
        .code16
        .globl ap_start, ap_end
ap_start:
        movw %cs, %bx
        movl %cr0, %edx
        movw %bx, %ds
        lgdtl ap_gdt_pointer - ap_start
        movl %edx, %ecx
        andl $CR0_CACHING, %ecx
        orl $CR0_PE, %ecx
        movl %ecx, %cr0
        ljmpl $CODE_SELECTOR, $ap_protected
        .balign 4
ap_gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
ap_end:
        .code32
ap_protected:
        movw $DATA_SELECTOR, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $ap_stack_top, %esp
        lidt idt_pointer
        pushl %edx
        pushl %ebx
        call ap_main
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
no_idt: .word 0
        .long 0

        .bss
        .balign 16
        .skip STACK_BYTES
stack_top:
        .skip AP_STACK_BYTES
ap_stack_top:
        .balign 8
idt:    .skip VECTORS * 8
        .globl at_entry
at_entry:
        .skip 80
        .globl probe_resume, probe_esp, probe_fault, probe_word
probe_resume:
        .skip 4
probe_esp:
        .skip 4
probe_fault:
        .skip 4
probe_word:
        .skip 8

        .section .note.GNU-stack, "", @progbits
