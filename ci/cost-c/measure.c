/*
 * Counts instructions with QEMU's `-icount shift=0`: one instruction takes one nanosecond, so one tick of SysTick
 * at 25 MHz is 40 instructions. Measures the stack by painting it. Same method as ../cost/src/measure.rs.
 */
#include "measure.h"

#include "../../c/examples/cortex-m3/semihosting.h"
#include "workload.h"

#define REPEATS 100u
#define INSTRUCTIONS_PER_TICK 40u
/* Much more than W needs, and much less than the available RAM. */
#define PAINTED (16u * 1024u)
#define PAINT 0xa5u

/* ARMv7-M architecture reference manual, section B3.3. */
struct systick {
    uint32_t control, reload, current;
};
#define SYSTICK ((volatile struct systick *)0xe000e010u)

static struct device device;
static char text[45];
static azure_dps_assignment assignment;
static const char *last_answer = assigned;
static size_t last_answer_len;

static bool step_a(void)
{
    return a(text);
}

static bool step_key(void)
{
    return read_key(&device);
}

static bool step_init(void)
{
    return init(&device);
}

static bool step_b(void)
{
    return b(&device);
}

static bool step_c(void)
{
    return c(&device);
}

static bool step_d(void)
{
    return d(&device);
}

static bool step_e(void)
{
    return e(&device, last_answer, last_answer_len, &assignment);
}

/* A step can be repeated only with a new device, and with the steps before it. */
static bool begin(void)
{
    azure_dps_signer signer = azure_dps_key_signer(&device.key);
    uint32_t wait_ms;
    return init(&device) && azure_dps_start(&device.dps, 0, 1700000000u) == AZURE_DPS_OK &&
           azure_dps_step(&device.dps, 0, &wait_ms) == AZURE_DPS_SIGN &&
           azure_dps_sign(&device.dps, &signer, device.buffer, sizeof device.buffer) == AZURE_DPS_OK &&
           azure_dps_step(&device.dps, 0, &wait_ms) == AZURE_DPS_SEND;
}

static bool from_new_b(void)
{
    return init(&device) && b(&device);
}

static bool from_new_c(void)
{
    return begin() && c(&device);
}

static bool registered(void)
{
    return begin() && request(&device, 0);
}

static bool polled(void)
{
    return registered() && d(&device);
}

static bool finished(void)
{
    return polled() && step_e();
}

static bool right = true;

static uint32_t instructions(bool (*step)(void))
{
    /* The first call may differ from all others. */
    right &= step();
    uint32_t start = SYSTICK->current;
    for (uint32_t i = 0; i < REPEATS; i++) right &= step();
    uint32_t ticks = (start - SYSTICK->current) & 0x00ffffffu;
    return ticks * INSTRUCTIONS_PER_TICK / REPEATS;
}

static uint32_t deepest;

/* Stores how many bytes below the stack pointer `step` touches, if no earlier step touched more. */
__attribute__((noinline)) static void stack(bool (*step)(void))
{
    volatile uint8_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (uint32_t depth = 64; depth <= PAINTED; depth++) *(top - depth) = PAINT;
    right &= step();
    uint32_t depth = PAINTED;
    while (*(top - depth) == PAINT) depth--;
    if (depth > deepest) deepest = depth;
}

static void print(const char *name, uint32_t number)
{
    char digits[12];
    char *start = digits + sizeof digits - 1;
    *start = '\0';
    *--start = '\n';
    do {
        *--start = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    semihosting_print(name);
    semihosting_print(" ");
    semihosting_print(start);
}

/* Measures step e with the returned payload repeated `times` times. */
static uint32_t with_payload(uint32_t times)
{
    static const char payload[] =
        "{\"property1\":\"value1\",\"property2\":{\"propertyA\":\"valueA\",\"property2-2\":1234}}";
    static char large[12 * 1024];
    size_t len = 0, before = (size_t)(assigned_end - assigned) - (sizeof payload - 1) - 2;
    for (size_t i = 0; i < before; i++) large[len++] = assigned[i];
    for (const char *open = "{\"a\":["; *open != '\0'; open++) large[len++] = *open;
    for (uint32_t time = 0; time < times; time++) {
        if (time > 0) large[len++] = ',';
        for (size_t i = 0; i < sizeof payload - 1; i++) large[len++] = payload[i];
    }
    for (const char *close = "]}}}"; *close != '\0'; close++) large[len++] = *close;
    last_answer = large;
    last_answer_len = len;
    return instructions(finished);
}

bool measure(void)
{
    last_answer_len = (size_t)(assigned_end - assigned);
    stack(step_a);
    stack(step_key);
    stack(step_init);
    stack(step_b);
    stack(step_c);
    stack(step_d);
    stack(step_e);

    SYSTICK->reload = 0x00ffffff;
    SYSTICK->current = 0;
    /* Uses the processor's clock, and starts the timer. */
    SYSTICK->control = 5;

    uint32_t only_a = instructions(step_a);
    uint32_t only_key = instructions(step_key);
    uint32_t only_init = instructions(step_init);
    uint32_t only_b = instructions(from_new_b) - only_init;
    uint32_t before_c = instructions(begin);
    uint32_t only_c = instructions(from_new_c) - before_c;
    uint32_t before_d = instructions(registered);
    uint32_t before_e = instructions(polled);
    uint32_t only_e = instructions(finished) - before_e;
    print("stack", deepest);
    print("caller", sizeof device);
    print("a", only_a);
    print("b", only_key + only_b);
    print("c", only_init + only_c);
    print("d", before_e - before_d);
    print("e", only_e);
    print("e10", with_payload(10) - before_e);
    print("e100", with_payload(100) - before_e);
    return right;
}
