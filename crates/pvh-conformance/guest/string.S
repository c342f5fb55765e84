/* Compilers may call these two functions, whatever the flags say. */

        .text
        .code32
        .globl memcpy
memcpy: pushl %esi
        pushl %edi
        movl 12(%esp), %edi
        movl 16(%esp), %esi
        movl 20(%esp), %ecx
        movl %edi, %eax
        rep movsb
        popl %edi
        popl %esi
        ret

        .globl memset
memset: pushl %edi
        movl 8(%esp), %edi
        movl 12(%esp), %eax
        movl 16(%esp), %ecx
        rep stosb
        movl 8(%esp), %eax
        popl %edi
        ret

        .section .note.GNU-stack, "", @progbits
