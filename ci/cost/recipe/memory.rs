//! Small `memcpy`, `memmove`, `memset` and `memcmp`. The functions in Rust's prebuilt `core` are optimized for long
//! blocks, and take 2 KB. For the short texts of a provisioning run, the functions here are also faster.
//!
//! Copy this file into your firmware, and declare it with `mod memory;`. The functions in `compiler_builtins` are weak
//! symbols, so the linker uses these instead.
//!
//! For ARMv7-M and ARMv8-M Mainline: Cortex-M3, M4, M7, M33 and later. The functions use unaligned loads and stores, as
//! Rust's own code for these processors does. So `CCR.UNALIGN_TRP` must stay clear. Do not use the functions on device
//! memory, because it requires aligned access. On a Cortex-M0, M0+ or M23, the file does not assemble.
//!
//! Each function uses no stack, and changes only r0 to r3, r12 and the flags. The run-time ABI for the Arm architecture
//! requires this of the `__aeabi` functions.

core::arch::global_asm!(
    r#"
    .syntax unified

@ void *memcpy(void *to, const void *from, size_t length)
    .section .text.memcpy, "ax", %progbits
    .global memcpy
    .type memcpy, %function
    .thumb_func
memcpy:
    mov     r12, r0
    subs    r2, #4
    blo     2f
1:  ldr     r3, [r1], #4
    subs    r2, #4
    str     r3, [r12], #4
    bhs     1b
2:  lsls    r2, r2, #31         @ carry: two bytes are left; negative: one byte is left
    itt     cs
    ldrhcs  r3, [r1], #2
    strhcs  r3, [r12], #2
    itt     mi
    ldrbmi  r3, [r1]
    strbmi  r3, [r12]
    bx      lr
    .size memcpy, . - memcpy
    .global __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8
    .thumb_set __aeabi_memcpy, memcpy
    .thumb_set __aeabi_memcpy4, memcpy
    .thumb_set __aeabi_memcpy8, memcpy

@ void *memmove(void *to, const void *from, size_t length)
    .section .text.memmove, "ax", %progbits
    .global memmove
    .type memmove, %function
    .thumb_func
memmove:
    subs    r3, r0, r1
    cmp     r3, r2              @ `to` lies within `from` and its length: backwards
    blo     1f
    b.w     memcpy              @ which reads each word before it writes to this address or a higher one
1:  add     r1, r2
    add     r12, r0, r2
    subs    r2, #4
    blo     3f
2:  ldr     r3, [r1, #-4]!
    subs    r2, #4
    str     r3, [r12, #-4]!
    bhs     2b
3:  lsls    r2, r2, #31
    itt     cs
    ldrhcs  r3, [r1, #-2]!
    strhcs  r3, [r12, #-2]!
    itt     mi
    ldrbmi  r3, [r1, #-1]
    strbmi  r3, [r12, #-1]
    bx      lr
    .size memmove, . - memmove
    .global __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8
    .thumb_set __aeabi_memmove, memmove
    .thumb_set __aeabi_memmove4, memmove
    .thumb_set __aeabi_memmove8, memmove

@ void *memset(void *to, int value, size_t length)
@ void __aeabi_memset(void *to, size_t length, int value)
@ void __aeabi_memclr(void *to, size_t length)
    .section .text.memset, "ax", %progbits
    .global memset
    .type memset, %function
    .thumb_func
memset:
    mov     r3, r1
    mov     r1, r2
    mov     r2, r3
    b       1f
    .size memset, . - memset
    .global __aeabi_memclr
    .type __aeabi_memclr, %function
    .thumb_func
__aeabi_memclr:
    movs    r2, #0
    .size __aeabi_memclr, . - __aeabi_memclr
    .global __aeabi_memset
    .type __aeabi_memset, %function
    .thumb_func
__aeabi_memset:
1:  mov     r12, r0
    uxtb    r2, r2
    orr     r2, r2, r2, lsl #8
    orr     r2, r2, r2, lsl #16
    subs    r1, #4
    blo     3f
2:  str     r2, [r12], #4
    subs    r1, #4
    bhs     2b
3:  lsls    r1, r1, #31
    it      cs
    strhcs  r2, [r12], #2
    it      mi
    strbmi  r2, [r12]
    bx      lr
    .size __aeabi_memset, . - __aeabi_memset
    .global __aeabi_memset4, __aeabi_memset8, __aeabi_memclr4, __aeabi_memclr8
    .thumb_set __aeabi_memset4, __aeabi_memset
    .thumb_set __aeabi_memset8, __aeabi_memset
    .thumb_set __aeabi_memclr4, __aeabi_memclr
    .thumb_set __aeabi_memclr8, __aeabi_memclr

@ int memcmp(const void *left, const void *right, size_t length)
    .section .text.memcmp, "ax", %progbits
    .global memcmp
    .type memcmp, %function
    .thumb_func
memcmp:
    subs    r2, #4
    blo     2f
1:  ldr     r3, [r0], #4
    ldr     r12, [r1], #4
    cmp     r3, r12
    bne     5f
    subs    r2, #4
    bhs     1b
2:  movs    r3, #0
    adds    r2, #4
    beq     4f
3:  ldrb    r3, [r0], #1
    ldrb    r12, [r1], #1
    subs    r3, r3, r12
    bne     4f
    subs    r2, #1
    bne     3b
4:  mov     r0, r3
    bx      lr
5:  rev     r0, r3              @ the first byte that differs decides
    rev     r12, r12
    cmp     r0, r12
    ite     lo
    movlo   r0, #-1
    movhs   r0, #1
    bx      lr
    .size memcmp, . - memcmp
    .global bcmp
    .thumb_set bcmp, memcmp

    .text
"#,
    options(raw)
);
