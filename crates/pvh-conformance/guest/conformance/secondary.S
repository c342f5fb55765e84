/* The entry points of secondary vCPUs, one for each width. The record is at DS:DI; SI is the number of the vCPU. */

#define MSR_EFER 0xc0000080
#define IS_UP 3
#define VCPU_OP 24
#define VCPU_OP_SLOT (VCPU_OP * 32)
#define COUNTER 152
#define STOP 160

/* The same in 16-bit and 32-bit code, except for the address width. */
.macro keep at
        movl %eax, 48(\at)
        movl %ecx, 56(\at)
        movl %edx, 64(\at)
        movl %ebx, 72(\at)
        movl %esp, 80(\at)
        movl %ebp, 88(\at)
        movl %esi, 96(\at)
        movl %edi, 104(\at)
        movl %cr0, %eax
        movl %eax, 8(\at)
        movl %cr3, %eax
        movl %eax, 16(\at)
        movl %cr4, %eax
        movl %eax, 24(\at)
        movl $MSR_EFER, %ecx
        rdmsr
        movl %eax, 32(\at)
        pushfl
        popl 40(\at)
        movw %cs, 112(\at)
        movw %ds, 120(\at)
        movw %ss, 128(\at)
        movw %es, 136(\at)
.endm

/* Counts until it must stop, then halts: HLT without interrupts takes the vCPU down. */
.macro count_and_halt at
        movl $1, (\at)
1:      incl COUNTER(\at)
        pause
        cmpl $0, STOP(\at)
        je 1b
2:      cli
        hlt
        jmp 2b
.endm

        .text
        .code16
        .globl start_16
        .balign 16
start_16:
        keep %di
        movl $IS_UP, %ebx
        movl %esi, %ecx
        movl $VCPU_OP, %eax
        call hypercall_16
        movl %eax, 144(%di)
        count_and_halt %di

        /* The instruction of the page's stubs, as 16-bit code has it; use_16_bit_stub writes it. */
        .globl hypercall_16
hypercall_16:
        ud2
        nop
        ret

far_16: call hypercall_16
        lretl
        .globl far_16_offset
        .set far_16_offset, far_16 - start_16

        .code32
        .globl start_32
        .balign 16
start_32:
        keep %edi
        movl $IS_UP, %ebx
        movl %esi, %ecx
        movl $hypercall_page + VCPU_OP_SLOT, %eax
        call *%eax
        movl %eax, 144(%edi)
        count_and_halt %edi

        .code64
        .globl start_64
        .balign 16
start_64:
        movq %rax, 48(%rdi)
        movq %rcx, 56(%rdi)
        movq %rdx, 64(%rdi)
        movq %rbx, 72(%rdi)
        movq %rsp, 80(%rdi)
        movq %rbp, 88(%rdi)
        movq %rsi, 96(%rdi)
        movq %rdi, 104(%rdi)
        movq %cr0, %rax
        movq %rax, 8(%rdi)
        movq %cr3, %rax
        movq %rax, 16(%rdi)
        movq %cr4, %rax
        movq %rax, 24(%rdi)
        movl $MSR_EFER, %ecx
        rdmsr
        movl %eax, 32(%rdi)
        pushfq
        popq 40(%rdi)
        movw %cs, 112(%rdi)
        movw %ds, 120(%rdi)
        movw %ss, 128(%rdi)
        movw %es, 136(%rdi)
        movq %rdi, %rbx
        movl $IS_UP, %edi
        movl $hypercall_page + VCPU_OP_SLOT, %eax
        call *%rax
        movq %rax, 144(%rbx)
        count_and_halt %rbx

        .section .note.GNU-stack, "", @progbits
