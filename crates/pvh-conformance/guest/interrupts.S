/* Interrupts of vectors 32 to 63, for images that take them: each calls on_interrupt with its vector. */

#define CODE_SELECTOR 0x08
#define FIRST_VECTOR 32
#define VECTORS 32

        .text
        .code32
        /* The gates and the return load the code segment, so it has to be the one of entry.S. */
        .globl load_code_segment
        .type load_code_segment, @function
load_code_segment:
        ljmp $CODE_SELECTOR, $1f
1:      ret

        .balign 16
        .globl interrupt_stubs
interrupt_stubs:
        .set vector, FIRST_VECTOR
        .rept VECTORS
        .balign 16
        pushl $vector
        jmp interrupt_entry
        .set vector, vector + 1
        .endr

        /* Returns without IRET, which some emulating machines do not support. */
interrupt_entry:
        pushal
        cld
        pushl 32(%esp)                  /* the vector, above the eight registers */
        call on_interrupt
        addl $4, %esp
        popal
        addl $4, %esp
        pushl 8(%esp)                   /* the flags, above eip and cs */
        popfl
        lret $4

        .section .note.GNU-stack, "", @progbits
