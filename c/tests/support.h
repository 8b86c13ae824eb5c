/* Shared by the tests: the devices of Microsoft's tutorial, the vectors of the Rust tests, memory of an exact
 * size, a device, answers in pieces, and a scripted connection. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "azure_dps.h"
#include "check.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CHECK_STR(seen, expected) check_str((seen), (expected), __FILE__, __LINE__, #seen)

static inline bool check_str(azure_dps_str seen, const char *expected, const char *file, int line,
                             const char *text)
{
    return check_text(seen.ptr, seen.len, expected, file, line, text);
}

#define SCOPE "0ne00002193"
#define TOASTER "breakroom499-contoso-tstrsd-007"
#define TOASTER_KEY "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs="
#define TOASTERS_HUB "contoso-toasters-hub-1098.azure-devices.net"
#define HEAT_PUMP "mainbuilding167-contoso-hpsd-088"
#define HEAT_PUMP_KEY "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg="
#define HEAT_PUMPS_HUB "contoso-heatpumps-hub-1098.azure-devices.net"
#define GROUP_KEY "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
#define PAYLOAD "{\"MyDeviceFirmwareVersion\":\"12.0.2.5\",\"MyDeviceProvisioningVersion\":\"1.0.0.0\"}"
#define OPERATION "4.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d"
#define ENDPOINT "global.azure-devices-provisioning.net"
#define UNIX_TIME 1700000000u
#define TRACKING_ID "6d75a1fe-0129-4f41-844b-c253a6653d4f"
#define VERSION "0.1.0"

/* ---- Vectors and memory ---- */

/* Reads the arguments: the directory of the vectors. Call it first. */
void support_begin(int argc, char **argv);

/* Returns a file of tests/vectors/, zero-terminated. It lives until finish(). */
const char *vector(const char *name);
const char *assigning(void);
const char *assigned(void);

/* Reads the next row of a .tsv file. Returns the number of columns, or 0 at the end. Skips rows with `#`. The
 * row lives until the test ends. */
size_t next_row(const char **file, const char *columns[], size_t max);

/* Returns uninitialized memory of exactly this size. ASan and valgrind report every access beyond its end. */
void *exact(size_t size);
/* Returns a copy of exactly this text, without a zero byte. */
azure_dps_str exact_str(const char *text);
/* Like sprintf, but in new memory. */
char *format(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;
/* Returns `text` with the first `from` replaced. If there is no `from`, the test fails. */
char *replace(const char *text, const char *from, const char *to);
/* Returns `text`, repeated `times` times. */
char *repeat(const char *text, size_t times);
bool contains(const char *text, const char *part);
bool ends_with(const char *text, const char *part);
/* Returns whether the memory contains `part`. */
bool holds(const void *memory, size_t size, const void *part, size_t len);
char *base64(const void *bytes, size_t len);
char *unescape_percent(const char *text);

static inline azure_dps_str str(const char *text)
{
    return azure_dps_str_of(text);
}

/* Called by check.c. */
void free_all(void);
void free_vectors(void);

/* ---- A device ---- */

typedef struct device {
    azure_dps_key keys[2];
    azure_dps_signer signer;
    azure_dps_config config;
    azure_dps_client dps;
    uint8_t buffer[2048];
    size_t len;
} device;

/* The toaster of the tutorial with its payload and key. Not initialized yet, so you can change `config`. */
void toaster(device *device);
/* A device with a certificate and no payload. */
void certified(device *device, const char *registration_id);
/* Initializes the device and starts it at time 0. */
void start(device *device);
/* Signs. The step must be SIGN before, and SEND after. */
void sign(device *device, uint32_t now);
void begin(device *device); /* start(), and sign() if there is a key */

/* Returns the next step without its time. */
int32_t step(device *device, uint32_t now);
/* The next step must be WAIT. Returns its time. */
uint32_t wait_of(device *device, uint32_t now);

/* Over MQTT: checks that a request is due, and writes it. Returns the topic and the body, zero-terminated. */
const char *publish(device *device, uint32_t now, const char **body);
/* Passes in the answer to the last request of publish(). The body is in its own memory. */
int32_t message(device *device, uint32_t now, const char *topic, const char *body);

/* Over HTTP: writes the request that is due, and returns it, zero-terminated. */
const char *request(device *device, uint32_t now);
/* Returns the bytes of an answer, with a Content-Length or chunked. Each of `headers` ends with \r\n. */
char *http(const char *status, const char *headers, const char *body);
char *http_chunked(const char *status, const char *headers, const char *body, size_t chunk);
/* Passes in an answer in pieces. Returns the last result of azure_dps_http_received(). */
int32_t answer(device *device, uint32_t now, const char *bytes, size_t piece, bool *keep_alive);
/* Does an exchange over HTTP: a request and this answer. */
void exchange(device *device, uint32_t now, const char *status, const char *headers, const char *body);
/* Does a run that ends with this first answer. Returns the result of azure_dps_get_assignment(). */
azure_dps_result run_to(device *device, const char *status, const char *body,
                        azure_dps_assignment *assignment);

azure_dps_error error_of(const device *device);
azure_dps_result result_of(const device *device);

/* ---- A connection that follows a script ---- */

typedef struct peer {
    const char *answers[16]; /* One for each request, or NULL: see below. */
    size_t answers_len;
    size_t piece;         /* The maximum number of bytes of one read or write. */
    unsigned again;       /* How often read and write return AGAIN before each success. */
    int32_t connects[16]; /* The results of connect, in this order; then 0. */
    int32_t read_result;  /* The result of read for a NULL answer: 0 closed, AGAIN stalled, or an error. */
    int32_t write_result; /* If not 0, the result of write. */
    uint32_t again_ms;    /* The duration of an AGAIN. */
    bool closes;          /* Closes after each answer, without `Connection: close`. */

    /* What the callbacks recorded. */
    uint32_t now;
    char sent[8192];
    size_t sent_len;
    unsigned requests, connected, closed, open_count;
    uint32_t waits[32];
    size_t waits_len;
    char host[128];
    uint16_t port;
    uint32_t connect_timeout;
    azure_dps_progress progress[64];
    size_t progress_len;

    /* Private. */
    const char *rest;
    size_t rest_len, next, asked_again;
    bool is_open, writing, answered;
} peer;

azure_dps_io io_of(peer *peer);
azure_dps_result run(device *device, peer *peer);

#ifdef __cplusplus
}
#endif

#endif
