/*
 * One of four images: only the start-up; the start-up and W once (WORKLOAD); both and one more function (MORE);
 * or the measurements (MEASURE). The first three have no other difference, so their sizes can be subtracted.
 */
#include "../../c/examples/cortex-m3/semihosting.h"
#if defined(MEASURE)
#include "measure.h"
#elif defined(WORKLOAD)
#include "workload.h"
#endif
#if defined(MORE)
#include "more.h"
#endif

int main(void)
{
#if defined(MEASURE)
    if (!measure()) return 1;
#elif defined(WORKLOAD)
    /* The caller's memory does not count as the library's flash. */
    static struct device device;
    if (!run(&device)) return 1;
#if defined(MORE)
    if (!MORE(&device)) return 1;
#endif
#endif
    semihosting_print("done\n");
    return 0;
}
