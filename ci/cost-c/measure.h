#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>

/* Prints stack, memory of the caller and instructions of each step of W, one a line. */
bool measure(void);

#endif
