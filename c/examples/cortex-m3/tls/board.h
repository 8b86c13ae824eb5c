/*
 * What QEMU's mps2-an385 has: a line of bytes to the server, a clock, and, by semihosting, what a product has
 * in flash, in an RTC and in a TRNG.
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

/** Sleeps until a byte arrives, for 10 ms at most. */
void board_idle(void);

/** Seconds since 1970: the host's. A product has an RTC, or asks an NTP server. */
uint32_t board_unix_time(void);

/** Returns the next byte from the line, or -1 if there is none. That the other end has gone is not told. */
int board_line_get(void);

/** Returns false if the line takes no byte at the moment. */
bool board_line_put(uint8_t byte);

/** Reads the words of QEMU's command line. Returns how many there are, at most `max`. */
int board_words(char *buffer, size_t size, char **words, int max);

/** Reads at most `size` bytes of a file on the host. Returns how many, or 0. */
size_t board_read_file(const char *path, void *buffer, size_t size);

/** Marks the stack that is free, and counts how much of it has been used since, below the caller. */
void board_stack_mark(void);
uint32_t board_stack_used(void);

#endif
