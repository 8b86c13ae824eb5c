#include "check.h"

#include <stdio.h>
#include <string.h>

#include "support.h"

static int failed_checks;
static int passed_tests;
static int failed_tests;
static char row_text[200];

void row(const char *text)
{
    snprintf(row_text, sizeof row_text, "%s", text);
}

bool check(bool condition, const char *file, int line, const char *text)
{
    if (!condition) {
        failed_checks++;
        printf("%s:%d: %s [%s]\n", file, line, text, row_text);
    }
    return condition;
}

bool check_int(int64_t seen, int64_t expected, const char *file, int line, const char *text)
{
    bool equal = check(seen == expected, file, line, text);
    if (!equal) {
        printf("    seen %lld, expected %lld\n", (long long)seen, (long long)expected);
    }
    return equal;
}

bool check_text(const char *seen, size_t len, const char *expected, const char *file, int line,
                const char *text)
{
    size_t expected_len = strlen(expected);
    bool equal = len == expected_len && (len == 0 || (seen != NULL && memcmp(seen, expected, len) == 0));
    check(equal, file, line, text);
    if (!equal) {
        printf("    seen \"%.*s\" (%lu), expected \"%s\" (%lu)\n", seen == NULL || len > 4000 ? 0 : (int)len,
               seen == NULL ? "" : seen, (unsigned long)len, expected, (unsigned long)expected_len);
    }
    return equal;
}

bool check_bytes(const void *seen, const void *expected, size_t len, const char *file, int line,
                 const char *text)
{
    return check(seen != NULL && memcmp(seen, expected, len) == 0, file, line, text);
}

void run_test(void (*test)(void), const char *name)
{
    failed_checks = 0;
    row("");
    test();
    free_all();
    if (failed_checks == 0) {
        passed_tests++;
    } else {
        failed_tests++;
        printf("%s failed: %d checks\n", name, failed_checks);
    }
}

int finish(void)
{
    free_vectors();
    printf("%d passed, %d failed\n", passed_tests, failed_tests);
    return failed_tests == 0 && passed_tests > 0 ? 0 : 1;
}
