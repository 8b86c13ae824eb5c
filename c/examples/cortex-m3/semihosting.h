/*
 * Output and exit code by semihosting: a debugger or QEMU handles `bkpt 0xab`.
 * https://github.com/ARM-software/abi-aa/blob/main/semihosting/semihosting.rst
 */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

static inline uint32_t semihosting_call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* SYS_WRITE0: a text that ends with a zero byte. */
static inline void semihosting_print(const char *text)
{
    (void)semihosting_call(0x04, text);
}

/* SYS_EXIT_EXTENDED, with ADP_Stopped_ApplicationExit. */
static inline void semihosting_exit(int code)
{
    const uint32_t reason[2] = {0x20026, (uint32_t)code};
    (void)semihosting_call(0x20, reason);
    for (;;) {
    }
}

#endif
