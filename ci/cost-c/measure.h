#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>

/* Prints stack, caller's memory and instructions of each step of W, one figure a line. */
bool measure(void);

#endif
