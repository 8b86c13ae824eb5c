/* Checks that say where they failed and what was seen. A test is a function; a program runs its tests with
 * RUN(), and ends with `return finish();`, which prints "N passed, N failed". */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each checks once, goes on whatever the outcome, and returns it. */
#define CHECK(condition) check((condition), __FILE__, __LINE__, #condition)
#define CHECK_INT(seen, expected) check_int((int64_t)(seen), (int64_t)(expected), __FILE__, __LINE__, #seen)
#define CHECK_TEXT(seen, len, expected) check_text((seen), (len), (expected), __FILE__, __LINE__, #seen)
#define CHECK_BYTES(seen, expected, len) check_bytes((seen), (expected), (len), __FILE__, __LINE__, #seen)

/* Runs one test. */
#define RUN(test) run_test((test), #test)

/* Printed with each check that fails from now on in this test: which row of a table it was. */
void row(const char *text);

bool check(bool condition, const char *file, int line, const char *text);
bool check_int(int64_t seen, int64_t expected, const char *file, int line, const char *text);
bool check_text(const char *seen, size_t len, const char *expected, const char *file, int line,
                const char *text);
bool check_bytes(const void *seen, const void *expected, size_t len, const char *file, int line,
                 const char *text);
void run_test(void (*test)(void), const char *name);
int finish(void);

#ifdef __cplusplus
}
#endif

#endif
