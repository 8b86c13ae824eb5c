/* Checks that print where they failed, and the value. A test is a function. A program runs its tests with
 * RUN() and ends with `return finish();`, which prints "N passed, N failed". */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns whether the check passed. The test continues after a failure. */
#define CHECK(condition) check((condition), __FILE__, __LINE__, #condition)
#define CHECK_INT(seen, expected) check_int((int64_t)(seen), (int64_t)(expected), __FILE__, __LINE__, #seen)
#define CHECK_TEXT(seen, len, expected) check_text((seen), (len), (expected), __FILE__, __LINE__, #seen)
#define CHECK_BYTES(seen, expected, len) check_bytes((seen), (expected), (len), __FILE__, __LINE__, #seen)

/* Runs one test. */
#define RUN(test) run_test((test), #test)

/* Sets the name of the table row. Each check that fails later in this test prints it. */
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
