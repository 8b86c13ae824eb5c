/* Provisions through the C API, and halts after each step. ci/ram-search/search.py searches the memory from outside,
 * and contains the same keys. The caller wipes its own buffers. */
#include "azure_dps.h"

#include <stddef.h>
#include <string.h>

#define GROUP_KEY "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
#define ID_SCOPE "0ne00002193"
#define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
#define UNIX_TIME 1700000000u

#define ASSIGNING "{\"operationId\":\"4.d0a6\",\"status\":\"assigning\"}"
#define ASSIGNED \
    "{\"operationId\":\"4.d0a6\",\"status\":\"assigned\",\"registrationState\":{\"assignedHub\":" \
    "\"contoso-toasters-hub-1098.azure-devices.net\",\"deviceId\":\"breakroom499-contoso-tstrsd-007\"}}"

/* All values of a device are on the stack of main(). The memory below them is unused. */
static struct device {
    char text[AZURE_DPS_KEY_BASE64_SIZE];
    char buffer[1024];
    azure_dps_key key;
    azure_dps_client dps;
} *device;

#if defined(__arm__)
/* The breakpoint of the debugger. */
__attribute__((noinline)) void halt(int place);
void halt(int place)
{
    __asm__ volatile("" : : "r"(place) : "memory");
}

int main(void);
void reset(void);
void reset(void)
{
    main();
    for (;;) {
    }
}

extern char stack_top[];
__attribute__((section(".vectors"), used)) static const void *const vectors[] = {stack_top, (const void *)reset};
#else
/* Reports the step, and waits for a byte. Only uses system calls, because a library would overwrite the memory to
 * search. */
__attribute__((noinline)) static void halt(int place)
{
    static char line[2] = "0\n";
    line[0] = (char)('0' + place);
    long result = 1;
    __asm__ volatile("syscall" : "+a"(result) : "D"(1L), "S"(line), "d"(2L) : "rcx", "r11", "memory");
    result = 0;
    __asm__ volatile("syscall" : "+a"(result) : "D"(0L), "S"(line), "d"(1L) : "rcx", "r11", "memory");
}
#endif

static void wipe(void *memory, size_t size)
{
    volatile unsigned char *byte = (volatile unsigned char *)memory;
    while (size-- > 0) *byte++ = 0;
}

static void expect(int32_t seen, int32_t expected)
{
    if (seen != expected) halt(0);
}

__attribute__((noinline)) static void init(const char *id_scope, azure_dps_result expected)
{
    azure_dps_config config = {0};
    config.id_scope = azure_dps_str_of(id_scope);
    config.registration_id = azure_dps_str_of(REGISTRATION_ID);
    config.payload = azure_dps_str_of("{\"MyDeviceFirmwareVersion\":\"12.0.2.5\"}");
    expect(azure_dps_init(&device->dps, &config), expected);
}

__attribute__((noinline)) static void factory(void)
{
    expect(azure_dps_key_derive(&device->key, azure_dps_str_of(GROUP_KEY), azure_dps_str_of(REGISTRATION_ID)), 0);
    halt(1);
    expect(azure_dps_key_write_base64(&device->key, device->text, sizeof device->text, NULL), 0);
    azure_dps_key_wipe(&device->key);
    halt(2);
}

__attribute__((noinline)) static void begin(void)
{
    azure_dps_signer signer = azure_dps_key_signer(&device->key);
    init(ID_SCOPE, 0);
    expect(azure_dps_start(&device->dps, 0, UNIX_TIME), 0);
    expect(azure_dps_step(&device->dps, 0, NULL), AZURE_DPS_SIGN);
    expect(azure_dps_sign(&device->dps, &signer, device->buffer, 20), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    expect(azure_dps_sign(&device->dps, &signer, device->buffer, sizeof device->buffer), 0);
    expect(azure_dps_step(&device->dps, 0, NULL), AZURE_DPS_SEND);
}

static const char *const answers[] = {"HTTP/1.1 202 Accepted\r\nContent-Length: 45\r\n\r\n" ASSIGNING,
                                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" ASSIGNED};
static size_t next, at;
static uint32_t clock_now;
static int32_t io_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    (void)ctx, (void)host, (void)port, (void)timeout_ms;
    return 0;
}
static int32_t io_read(void *ctx, uint8_t *bytes, size_t size)
{
    (void)ctx;
    if (next == 2) return 0;
    size_t left = strlen(answers[next]) - at, len = left < size ? left : size;
    memcpy(bytes, answers[next] + at, len);
    at += len;
    if (at == strlen(answers[next])) next++, at = 0;
    return (int32_t)len;
}
static int32_t io_write(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx, (void)bytes;
    return (int32_t)len;
}
static void io_close(void *ctx) { (void)ctx; }
static uint32_t io_clock(void *ctx) { (void)ctx; return clock_now++; }
static void io_delay(void *ctx, uint32_t ms) { (void)ctx; clock_now += ms; }

__attribute__((noinline)) static void mqtt(void)
{
    azure_dps_str topic;
    azure_dps_bytes body;
    begin();
    expect(azure_dps_mqtt_write_publish(&device->dps, 0, device->buffer, sizeof device->buffer, &topic, &body, NULL), 0);
    expect(azure_dps_mqtt_write_password(&device->dps, device->buffer, sizeof device->buffer, NULL), 0);
    halt(5);
    wipe(device->buffer, sizeof device->buffer);
    azure_dps_deinit(&device->dps);
}

__attribute__((noinline)) static void http(void)
{
    azure_dps_signer signer = azure_dps_key_signer(&device->key);
    const azure_dps_io io = {NULL, io_connect, io_read, io_write, io_close, io_clock, io_delay, NULL};
    init(ID_SCOPE, 0);
    expect(azure_dps_run(&device->dps, UNIX_TIME, &signer, device->buffer, sizeof device->buffer, &io), 0);
    azure_dps_assignment assignment;
    expect(azure_dps_get_assignment(&device->dps, device->buffer, sizeof device->buffer, &assignment), 0);
    azure_dps_hub hub = {assignment.assigned_hub, assignment.device_id};
    char password[512];
    expect(azure_dps_hub_write_password(&hub, &signer, 0, UNIX_TIME + 3600, password, 40, NULL),
           AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    expect(azure_dps_hub_write_password(&hub, &signer, 0, UNIX_TIME + 3600, password, sizeof password, NULL), 0);
    wipe(password, sizeof password);
    expect(azure_dps_hub_write_connection_string(&hub, &device->key, password, sizeof password, NULL), 0);
    wipe(password, sizeof password);
    expect(azure_dps_hub_write_connection_string(&hub, &device->key, password, 60, NULL), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    wipe(password, sizeof password);
    wipe(device->buffer, sizeof device->buffer);
    halt(6);
    azure_dps_deinit(&device->dps);
}

int main(void)
{
    struct device memory = {0};
    device = &memory;
    factory();
    expect(azure_dps_key_from_base64(&device->key, azure_dps_str_of(device->text)), 0);
    wipe(device->text, sizeof device->text);
    halt(3);
    /* An invalid group key, with an error at its end, replaces a key. */
    expect(azure_dps_key_from_base64(&device->key, azure_dps_str_of(
               "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoO?==")),
           AZURE_DPS_ERR_INVALID_KEY);
    expect(azure_dps_key_derive(&device->key, azure_dps_str_of(GROUP_KEY), azure_dps_str_of("Not an ID")),
           AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
    halt(4);
    expect(azure_dps_key_from_base64(&device->key, azure_dps_str_of("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")), 0);
    mqtt();
    http();
    /* A run that ends in the middle, and an initialization that fails. */
    begin();
    azure_dps_deinit(&device->dps);
    init("not a scope", AZURE_DPS_ERR_INVALID_ID_SCOPE);
    azure_dps_deinit(&device->dps);
    azure_dps_key_wipe(&device->key);
    wipe(device->buffer, sizeof device->buffer);
    halt(7);
    return 0;
}
