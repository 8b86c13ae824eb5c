#include "board.h"

#include <mbedtls/build_info.h>
#include <mbedtls/entropy.h>
#include <mbedtls/platform_time.h>
#include <mbedtls/platform_util.h>
#include <string.h>
#include <time.h>

#include "../semihosting.h"

static volatile uint32_t *reg(uintptr_t address)
{
    return (volatile uint32_t *)address;
}

/* Arm's CMSDK UART; number 1 of the board. Its receive interrupt is number 2. */
#define UART_DATA reg(0x40005000u)
#define UART_STATE reg(0x40005004u)
#define UART_CTRL reg(0x40005008u)
#define UART_INTERRUPT reg(0x4000500cu)
#define UART_BAUDDIV reg(0x40005010u)
#define UART_SENDER_FULL 1u
#define UART_RECEIVER_FULL 2u
#define UART_RECEIVE_INTERRUPT (1u << 2)
/* The FPGA's counter of 100 ticks a second. */
#define COUNTER_100HZ reg(0x40028014u)
/* The core's. */
#define SYSTICK_CTRL reg(0xe000e010u)
#define SYSTICK_RELOAD reg(0xe000e014u)
#define SYSTICK_NOW reg(0xe000e018u)
#define NVIC_ENABLE reg(0xe000e100u)
#define NVIC_UNPEND reg(0xe000e280u)
#define SCB_ICSR reg(0xe000ed04u)
#define CLOCK_HZ 25000000u

void board_start(void)
{
    /* An interrupt ends a wait. Interrupts stay masked, because there are no handlers. */
    __asm__ volatile("cpsid i" ::: "memory");
    *SYSTICK_RELOAD = CLOCK_HZ / 100 - 1;
    *SYSTICK_NOW = 0;
    *SYSTICK_CTRL = 7;
    *UART_BAUDDIV = 16;
    *UART_CTRL = 1u | 2u | 8u;
    *NVIC_ENABLE = UART_RECEIVE_INTERRUPT;
}

uint32_t board_clock_ms(void)
{
    return *COUNTER_100HZ * 10u;
}

void board_idle(void)
{
    /* A byte that arrives after this check also ends the wait. */
    if ((*UART_STATE & UART_RECEIVER_FULL) == 0) __asm__ volatile("wfi" ::: "memory");
    *SCB_ICSR = 1u << 25; /* Clears the pending bit of SysTick. */
}

int board_line_get(void)
{
    if ((*UART_STATE & UART_RECEIVER_FULL) == 0) return -1;
    /* Clear it before the read: the next byte sets it again. */
    *UART_INTERRUPT = 2u;
    *NVIC_UNPEND = UART_RECEIVE_INTERRUPT;
    return (int)(*UART_DATA & 0xffu);
}

bool board_line_put(uint8_t byte)
{
    if ((*UART_STATE & UART_SENDER_FULL) != 0) return false;
    *UART_DATA = byte;
    return true;
}

/* ---- By semihosting ---- */

uint32_t board_unix_time(void)
{
    return semihosting_call(0x11, NULL);
}

int board_words(char *buffer, size_t size, char **words, int max)
{
    uint32_t block[2] = {(uint32_t)buffer, size};
    int count = 0;
    if (semihosting_call(0x15, block) != 0) return 0;
    for (char *at = buffer; at != NULL && count < max; count++) {
        words[count] = at;
        at = strchr(at, ' ');
        if (at != NULL) *at++ = '\0';
    }
    return count;
}

size_t board_read_file(const char *path, void *buffer, size_t size)
{
    const uint32_t open[3] = {(uint32_t)path, 1, strlen(path)};
    const uint32_t handle = semihosting_call(0x01, open);
    if (handle == UINT32_MAX) return 0;
    const uint32_t read[3] = {handle, (uint32_t)buffer, size};
    const uint32_t unread = semihosting_call(0x06, read);
    (void)semihosting_call(0x02, &handle);
    return unread <= size ? size - unread : 0;
}

/* ---- For mbedTLS ---- */

void board_exit(int code)
{
    semihosting_exit(code);
}

/* The host's random numbers replace a TRNG. A product needs a TRNG, or an attacker can guess its keys. */
int mbedtls_hardware_poll(void *data, unsigned char *output, size_t len, size_t *written)
{
    (void)data;
    *written = board_read_file("/dev/urandom", output, len);
    return *written == len ? 0 : MBEDTLS_ERR_ENTROPY_SOURCE_FAILED;
}

time_t time(time_t *into)
{
    const time_t now = (time_t)board_unix_time();
    if (into != NULL) *into = now;
    return now;
}

struct tm *mbedtls_platform_gmtime_r(const mbedtls_time_t *now, struct tm *into)
{
    return gmtime_r(now, into);
}

mbedtls_ms_time_t mbedtls_ms_time(void)
{
    return (mbedtls_ms_time_t)board_unix_time() * 1000;
}

/* ---- The stack ---- */

extern uint32_t bss_end[], stack_top[]; /* mps2-an385.ld */
#define MARK 0x5aa5c33cu
#define STACK_WORDS (64u * 1024u / 4u)

static uint32_t *stack_pointer(void)
{
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

void board_stack_mark(void)
{
    for (volatile uint32_t *at = stack_top - STACK_WORDS; at < stack_pointer() - 16; at++) *at = MARK;
}

uint32_t board_stack_used(void)
{
    const volatile uint32_t *at = stack_top - STACK_WORDS;
    while (at < stack_top && *at == MARK) at++;
    return (uint32_t)(stack_top - at) * 4u;
}
