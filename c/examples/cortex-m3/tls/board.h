/*
 * QEMU's board mps2-an385: a serial line to the server and a clock. Semihosting replaces the flash, the RTC and
 * the TRNG of a product.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Starts the clock and the line. */
void board_start(void);

/** The time since the start, in milliseconds. It wraps. */
uint32_t board_clock_ms(void);

/** Sleeps until a byte arrives, but at most for 10 ms. */
void board_idle(void);

/** Returns the seconds since 1970, from the host. A product has an RTC or asks an NTP server. */
uint32_t board_unix_time(void);

/** Returns the next byte from the line, or -1 if there is none. The line does not report a disconnect. */
int board_line_get(void);

/** Returns false if the line cannot take a byte now. */
bool board_line_put(uint8_t byte);

/** Reads the words of QEMU's command line. Returns the number of words, at most `max`. */
int board_words(char *buffer, size_t size, char **words, int max);

/** Reads at most `size` bytes of a file on the host. Returns the number of bytes, or 0. */
size_t board_read_file(const char *path, void *buffer, size_t size);

/** Marks the free stack below the caller. Then counts how much of it was used. */
void board_stack_mark(void);
uint32_t board_stack_used(void);

#endif
