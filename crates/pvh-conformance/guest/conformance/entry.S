/* The first instructions of the conformance guest, and code that C cannot express. */

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CODE 0x08
#define CODE_SELECTOR CODE          /* of fill_idt.inc */
#define DATA 0x10
#define CODE64 0x18
#define CODE16 0x40
#define USER_CODE_OF 0x20               /* SYSENTER: code, stack; user code, user stack behind them */
#define STACK_BYTES 32768
#define VECTORS 0x50
#define EXCEPTIONS 32
#define MSR_EFER 0xc0000080
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define EFER_LME 0x100
#define IOPL_3 0x3000

        .section .note.Xen, "a", @note
        .balign 4
        .long 2f - 1f
        .long 4f - 3f
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
        movl $stack_top, %esp
        cld
        movl %ebx, start_info_at
        call fill_idt
        lgdt gdt_pointer
        lidt idt_pointer
        ljmp $CODE, $1f
1:      movl $DATA, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %fs
        movl %eax, %gs
        movl %eax, %ss
        call guest_main
halt:
        cli
        hlt
        jmp halt

#include "../fill_idt.inc"

        .balign 16
stubs:
        .set vector, 0
        .rept EXCEPTIONS
        .balign 16
        .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        .else
        pushl $0
        .endif
        pushl $vector
        .if vector == 2
        jmp interrupt_entry
        .else
        jmp fault_entry
        .endif
        .set vector, vector + 1
        .endr
        .rept VECTORS - EXCEPTIONS
        .balign 16
        pushl $0
        pushl $vector
        jmp interrupt_entry
        .set vector, vector + 1
        .endr

        /* An expected fault continues at the given address. */
fault_entry:
        cmpl $0, recover
        je 1f
        movl recover_esp, %esp
        jmp *recover
1:      call fault
        jmp halt

        /* Returns without IRET, which some emulating machines do not support. */
interrupt_entry:
        pushal
        cld
        pushl 32(%esp)
        call on_interrupt
        addl $4, %esp
        popal
        addl $8, %esp
        pushl 8(%esp)
        popfl
        lret $4

        /* Long enough for a hypervisor that checks for interrupts only now and then. */
        .globl breathe
breathe:
        movl $2000, %eax
        sti
1:      pause
        decl %eax
        jnz 1b
        cli
        ret

        /* uint32_t call32(number, a, b, c, d, e) */
        .globl call32
call32: pushl %ebx
        pushl %esi
        pushl %edi
        movl 16(%esp), %eax
        shll $5, %eax
        addl $hypercall_page, %eax
        movl 20(%esp), %ebx
        movl 24(%esp), %ecx
        movl 28(%esp), %edx
        movl 32(%esp), %esi
        movl 36(%esp), %edi
        call *%eax
        popl %edi
        popl %esi
        popl %ebx
        ret

        /* uint32_t call16(number, a, b, c, d, e): from 16-bit code, which cannot read the page's stubs. */
        .globl call16
call16: pushl %ebx
        pushl %esi
        pushl %edi
        movl 16(%esp), %eax
        movl 20(%esp), %ebx
        movl 24(%esp), %ecx
        movl 28(%esp), %edx
        movl 32(%esp), %esi
        movl 36(%esp), %edi
        lcall $CODE16, $far_16_offset
        popl %edi
        popl %esi
        popl %ebx
        ret

        .globl call_with_interrupts
call_with_interrupts:
        pushl %ebx
        movl 8(%esp), %eax
        shll $5, %eax
        addl $hypercall_page, %eax
        movl 12(%esp), %ebx
        movl 16(%esp), %ecx
        sti
        call *%eax
        cli
        popl %ebx
        ret

        /* uint64_t call64(const struct call64 *): from compatibility mode, by a far call. */
        .globl call64
call64: pushl %ebx
        pushl %esi
        pushl %edi
        pushl %ebp
        movl 20(%esp), %ebp
        lcall $CODE64, $1f
        popl %ebp
        popl %edi
        popl %esi
        popl %ebx
        ret
        .code64
1:      movl %esp, %esp
        movl %ebp, %ebp
        movq 8(%rbp), %rdi
        movq 16(%rbp), %rsi
        movq 24(%rbp), %rdx
        movq 32(%rbp), %r10
        movq 40(%rbp), %r8
        movl 0(%rbp), %ecx
        shll $5, %ecx
        addl $hypercall_page, %ecx
        call *%rcx
        movq %rax, %rdx
        shrq $32, %rdx
        lretl
        .code32

        .globl long_mode_on
long_mode_on:
        movl %cr4, %eax
        orl $CR4_PAE, %eax
        movl %eax, %cr4
        movl 4(%esp), %eax
        movl %eax, %cr3
        movl $MSR_EFER, %ecx
        rdmsr
        orl $EFER_LME, %eax
        wrmsr
        movl %cr0, %eax
        orl $CR0_PG, %eax
        movl %eax, %cr0
        ljmp $CODE, $1f
1:      ret

        .globl long_mode_off
long_mode_off:
        movl %cr0, %eax
        andl $~CR0_PG, %eax
        movl %eax, %cr0
        ljmp $CODE, $1f
1:      movl $MSR_EFER, %ecx
        rdmsr
        andl $~EFER_LME, %eax
        wrmsr
        movl %cr4, %eax
        andl $~CR4_PAE, %eax
        movl %eax, %cr4
        ret

        /* uint32_t paging_on(root, cr4): the CR0 that the machine then has. */
        .globl paging_on
paging_on:
        movl 8(%esp), %eax
        movl %eax, %cr4
        movl 4(%esp), %eax
        movl %eax, %cr3
        movl $1f, recover               /* some emulations fault */
        movl %esp, recover_esp
        movl %cr0, %eax
        orl $CR0_PG, %eax
        movl %eax, %cr0
        ljmp $CODE, $1f
1:      movl $0, recover
        movl %cr0, %eax
        ret

        .globl paging_off
paging_off:
        movl %cr0, %eax
        andl $~CR0_PG, %eax
        movl %eax, %cr0
        ljmp $CODE, $1f
1:      xorl %eax, %eax
        movl %eax, %cr4
        ret

        /* bool try_write_msr(msr, low, high) */
        .globl try_write_msr
try_write_msr:
        movl 4(%esp), %ecx
        movl 8(%esp), %eax
        movl 12(%esp), %edx
        movl $1f, recover
        movl %esp, recover_esp
        wrmsr
        movl $1, %eax
        jmp 2f
1:      xorl %eax, %eax
2:      movl $0, recover
        ret

        /* uint32_t call32_user(number, a, b): down by SYSEXIT, back by SYSENTER. IOPL 3, for where a call is port I/O. */
        .globl call32_user
call32_user:
        pushl %ebx
        pushl %esi
        pushl %edi
        pushl %ebp
        movl $0x174, %ecx
        xorl %edx, %edx
        movl $USER_CODE_OF, %eax
        wrmsr
        incl %ecx
        movl %esp, %eax
        wrmsr
        incl %ecx
        movl $3f, %eax
        wrmsr
        movl 20(%esp), %esi
        shll $5, %esi
        addl $hypercall_page, %esi
        movl 24(%esp), %ebx
        movl 28(%esp), %edi
        pushfl
        orl $IOPL_3, (%esp)
        popfl
        movl $user_stack_top, %ecx
        movl $2f, %edx
        sysexit
2:      movl $USER_CODE_OF + 0x1b, %eax
        movl %eax, %ds
        movl %edi, %ecx
        call *%esi
        sysenter
3:      movl $DATA, %ecx
        movl %ecx, %ds
        movl %ecx, %ss
        ljmp $CODE, $4f
4:      pushl $2
        popfl
        popl %ebp
        popl %edi
        popl %esi
        popl %ebx
        ret

        .data
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9b000000ffff        /* 08: 32-bit code */
        .quad 0x00cf93000000ffff        /* 10: data */
        .quad 0x00af9b000000ffff        /* 18: 64-bit code */
        .quad 0x00cf9b000000ffff        /* 20: code, data, user code, user data, as SYSENTER and SYSEXIT take them */
        .quad 0x00cf93000000ffff
        .quad 0x00cffb000000ffff
        .quad 0x00cff3000000ffff
        .globl code_16
code_16:
        .quad 0x00009b000000ffff        /* 40: 16-bit code, its base is start_16 */
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
        .skip 1024
user_stack_top:
        .balign 8
idt:    .skip VECTORS * 8
recover:
        .skip 4
recover_esp:
        .skip 4
        .globl start_info_at
start_info_at:
        .skip 4

        .section .note.GNU-stack, "", @progbits
