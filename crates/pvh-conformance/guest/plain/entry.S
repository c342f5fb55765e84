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
        /* MOV changes no flag, and DS is flat (the ABI says so). */
        movl %eax, at_entry + 0
        movl %ebx, at_entry + 4
        movl %ecx, at_entry + 8
        movl %edx, at_entry + 12
        movl %esi, at_entry + 16
        movl %edi, at_entry + 20
        movl %ebp, at_entry + 24
        movl %esp, at_entry + 28
        movl $stack_top, %esp
        pushfl
        popl at_entry + 32
        movl %cr0, %eax
        movl %eax, at_entry + 36
        movl %cr2, %eax
        movl %eax, at_entry + 40
        movl %cr3, %eax
        movl %eax, at_entry + 44
        movl %cr4, %eax
        movl %eax, at_entry + 48
        movw %cs, at_entry + 52
        movw %ds, at_entry + 54
        movw %es, at_entry + 56
        movw %fs, at_entry + 58
        movw %gs, at_entry + 60
        movw %ss, at_entry + 62
        str at_entry + 64
        sldt at_entry + 66
        sgdt at_entry + 68
        sidt at_entry + 74

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

fill_idt:
        movl $idt, %edi
        movl $stubs, %eax
        movl $VECTORS, %ecx
1:      movw %ax, (%edi)
        movw $CODE_SELECTOR, 2(%edi)
        movw $0x8e00, 4(%edi)           /* present, 32-bit interrupt gate */
        movl %eax, %edx
        shrl $16, %edx
        movw %dx, 6(%edi)
        addl $8, %edi
        addl $16, %eax
        decl %ecx
        jnz 1b
        ret

        /* One stub of 16 bytes per vector: it pushes an error code, if the CPU pushes none, and the vector. */
        .balign 16
stubs:
        .set vector, 0
        .rept VECTORS
        .balign 16
        .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        .else
        pushl $0
        .endif
        pushl $vector
        jmp fault_entry
        .set vector, vector + 1
        .endr

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
