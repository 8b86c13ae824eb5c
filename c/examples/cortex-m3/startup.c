/* The start-up of a program on a Cortex-M3 without an operating system. */
#include <stdint.h>

#include "semihosting.h"

/* Defined in mps2-an385.ld. */
extern uint32_t data_start[], data_end[], bss_start[], bss_end[], stack_top[];
extern const uint32_t data_image[];

int main(void);

void reset(void)
{
    /* Without `volatile`, the compiler calls memcpy() and memset(). */
    const uint32_t *from = data_image;
    for (volatile uint32_t *to = data_start; to < data_end; to++) *to = *from++;
    for (volatile uint32_t *to = bss_start; to < bss_end; to++) *to = 0;
    semihosting_exit(main());
}

/* Only a fault calls it: no interrupt is enabled. */
static void fault(void)
{
    semihosting_exit(125);
}

/* ARMv7-M architecture reference manual, section B1.5.3. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};
