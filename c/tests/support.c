#include "support.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef VALGRIND_MAKE_MEM_DEFINED
#define VALGRIND_MAKE_MEM_DEFINED(memory, size) (void)0
#endif

/* ---- Vectors and memory ---- */

static const char *directory;
static void *kept[20000];
static size_t kept_len;
static struct {
    const char *name;
    char *text;
} vectors[16];

static void die(const char *what)
{
    printf("%s\n", what);
    exit(2);
}

void support_begin(int argc, char **argv)
{
    if (argc != 2) {
        die("usage: PROGRAM VECTORS, the directory tests/vectors");
    }
    directory = argv[1];
    /* By line, so that a crash does not lose output. */
    setvbuf(stdout, NULL, _IOLBF, 1000);
}

static void *keep(void *memory)
{
    if (memory == NULL || kept_len == sizeof kept / sizeof *kept) {
        die("no more memory for this test");
    }
    kept[kept_len++] = memory;
    return memory;
}

void free_all(void)
{
    while (kept_len > 0) {
        free(kept[--kept_len]);
    }
}

void free_vectors(void)
{
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        free(vectors[i].text);
    }
}

const char *vector(const char *name)
{
    size_t at = 0;
    while (vectors[at].name != NULL && strcmp(vectors[at].name, name) != 0) {
        at++;
    }
    if (vectors[at].name == NULL) {
        char path[1000];
        snprintf(path, sizeof path, "%s/%s", directory, name);
        FILE *file = fopen(path, "rb");
        char *text = (char *)malloc(100000);
        if (file == NULL || text == NULL) {
            die(path);
        }
        text[fread(text, 1, 99999, file)] = '\0';
        fclose(file);
        vectors[at].name = name;
        vectors[at].text = text;
    }
    return vectors[at].text;
}

const char *assigning(void)
{
    return vector("operation-assigning.json");
}

const char *assigned(void)
{
    return vector("operation-assigned.json");
}

size_t next_row(const char **file, const char *columns[], size_t max)
{
    while (**file != '\0') {
        size_t len = strcspn(*file, "\n");
        char *line = (char *)keep(malloc(len + 1));
        memcpy(line, *file, len);
        line[len] = '\0';
        *file += len + ((*file)[len] == '\n');
        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        size_t count = 0;
        for (char *column = line; column != NULL && count < max; count++) {
            char *tab = strchr(column, '\t');
            if (tab != NULL) {
                *tab = '\0';
            }
            columns[count] = column;
            column = tab == NULL ? NULL : tab + 1;
        }
        return count;
    }
    return 0;
}

void *exact(size_t size)
{
    return keep(malloc(size));
}

azure_dps_str exact_str(const char *text)
{
    size_t len = strlen(text);
    char *copy = (char *)exact(len == 0 ? 1 : len);
    memcpy(copy, text, len);
    azure_dps_str result = {copy, len};
    return result;
}

char *format(const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    size_t size = (size_t)vsnprintf(NULL, 0, format, arguments) + 1;
    char *text = (char *)exact(size);
    vsnprintf(text, size, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

char *replace(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!CHECK(at != NULL)) {
        return format("%s", text);
    }
    return format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

char *repeat(const char *text, size_t times)
{
    size_t len = strlen(text);
    char *all = (char *)exact(len * times + 1);
    for (size_t i = 0; i < times; i++) {
        memcpy(all + i * len, text, len);
    }
    all[len * times] = '\0';
    return all;
}

bool contains(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

bool ends_with(const char *text, const char *part)
{
    size_t len = strlen(text), part_len = strlen(part);
    return len >= part_len && strcmp(text + len - part_len, part) == 0;
}

bool holds(const void *memory, size_t size, const void *part, size_t len)
{
    /* A handle has padding that is never written. */
    VALGRIND_MAKE_MEM_DEFINED(memory, size);
    for (size_t at = 0; at + len <= size; at++) {
        if (memcmp((const uint8_t *)memory + at, part, len) == 0) {
            return true;
        }
    }
    return false;
}

char *base64(const void *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = (const uint8_t *)bytes;
    char *text = (char *)exact((len + 2) / 3 * 4 + 1);
    char *to = text;
    for (size_t at = 0; at < len; at += 3) {
        uint32_t group = (uint32_t)from[at] << 16;
        group |= at + 1 < len ? (uint32_t)from[at + 1] << 8 : 0;
        group |= at + 2 < len ? from[at + 2] : 0u;
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = at + 1 < len ? digits[group >> 6 & 63] : '=';
        *to++ = at + 2 < len ? digits[group & 63] : '=';
    }
    *to = '\0';
    return text;
}

char *unescape_percent(const char *text)
{
    char *plain = format("%s", text);
    char *to = plain;
    while (*text != '\0') {
        unsigned byte;
        if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            text += 3;
        } else {
            *to++ = *text++;
        }
    }
    *to = '\0';
    return plain;
}

/* ---- A device ---- */

void certified(device *device, const char *registration_id)
{
    memset(device, 0, sizeof *device);
    device->config.id_scope = exact_str(SCOPE);
    device->config.registration_id = exact_str(registration_id);
    device->config.attestation = AZURE_DPS_X509;
}

void toaster(device *device)
{
    certified(device, TOASTER);
    device->config.payload = exact_str(PAYLOAD);
    device->config.attestation = AZURE_DPS_SYMMETRIC_KEY;
    CHECK_INT(azure_dps_key_from_base64(&device->keys[0], str(TOASTER_KEY)), AZURE_DPS_OK);
    device->signer = azure_dps_key_signer(device->keys);
}

void start(device *device)
{
    CHECK_INT(azure_dps_init(&device->dps, &device->config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_start(&device->dps, 0, UNIX_TIME), AZURE_DPS_OK);
}

void sign(device *device, uint32_t now)
{
    CHECK_INT(step(device, now), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(&device->dps, &device->signer, device->buffer, sizeof device->buffer),
              AZURE_DPS_OK);
    CHECK_INT(step(device, now), AZURE_DPS_SEND);
}

void begin(device *device)
{
    start(device);
    if (device->config.attestation == AZURE_DPS_SYMMETRIC_KEY) {
        sign(device, 0);
    }
}

int32_t step(device *device, uint32_t now)
{
    uint32_t wait_ms = 0;
    return azure_dps_step(&device->dps, now, &wait_ms);
}

uint32_t wait_of(device *device, uint32_t now)
{
    uint32_t wait_ms = 0;
    CHECK_INT(azure_dps_step(&device->dps, now, &wait_ms), AZURE_DPS_WAIT);
    return wait_ms;
}

const char *publish(device *device, uint32_t now, const char **body)
{
    azure_dps_str topic = {NULL, 0};
    azure_dps_bytes bytes = {NULL, 0};
    CHECK_INT(step(device, now), AZURE_DPS_SEND);
    azure_dps_result result = azure_dps_mqtt_write_publish(&device->dps, now, device->buffer,
                                                           sizeof device->buffer, &topic, &bytes, NULL);
    if (!CHECK_INT(result, AZURE_DPS_OK)) {
        return "";
    }
    CHECK_INT(topic.ptr[topic.len], 0);
    if (body != NULL) {
        *body = format("%.*s", (int)bytes.len, (const char *)bytes.ptr);
    }
    return format("%s", topic.ptr);
}

int32_t message(device *device, uint32_t now, const char *topic, const char *body)
{
    azure_dps_str copy = exact_str(body);
    memcpy(device->buffer, body, copy.len);
    device->len = copy.len;
    return azure_dps_mqtt_on_message(&device->dps, now, exact_str(topic), copy.ptr, copy.len);
}

const char *request(device *device, uint32_t now)
{
    size_t len = 0;
    CHECK_INT(step(device, now), AZURE_DPS_SEND);
    azure_dps_result result =
        azure_dps_http_write_request(&device->dps, now, device->buffer, sizeof device->buffer, &len);
    return CHECK_INT(result, AZURE_DPS_OK) ? format("%.*s", (int)len, (const char *)device->buffer) : "";
}

#define OF_SERVICE                                              \
    "x-ms-request-id: 12950752-6d75-4f41-844b-c253a6653d4f\r\n" \
    "Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n"

char *http(const char *status, const char *headers, const char *body)
{
    return format("HTTP/1.1 %s\r\nDate: Wed, 03 Aug 2022 20:34:41 GMT\r\n"
                  "Content-Type: application/json; charset=utf-8\r\nContent-Length: %lu\r\n%s" OF_SERVICE
                  "\r\n%s",
                  status, (unsigned long)strlen(body), headers, body);
}

char *http_chunked(const char *status, const char *headers, const char *body, size_t chunk)
{
    char *text = format(
        "HTTP/1.1 %s\r\nDate: Wed, 03 Aug 2022 20:34:41 GMT\r\n"
        "Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n%s" OF_SERVICE "\r\n",
        status, headers);
    char *all = (char *)exact(strlen(text) + strlen(body) * 10 + 10);
    char *to = all + sprintf(all, "%s", text);
    for (size_t at = 0; at < strlen(body); at += chunk) {
        size_t len = strlen(body) - at < chunk ? strlen(body) - at : chunk;
        to += sprintf(to, "%lx\r\n%.*s\r\n", (unsigned long)len, (int)len, body + at);
    }
    sprintf(to, "0\r\n\r\n");
    return all;
}

int32_t answer(device *device, uint32_t now, const char *bytes, size_t piece, bool *keep_alive)
{
    size_t rest = strlen(bytes);
    int32_t result = 0;
    while (result == 0) {
        uint8_t *space = NULL;
        size_t space_len = 0;
        azure_dps_result space_result = azure_dps_http_space(&device->dps, now, device->buffer,
                                                             sizeof device->buffer, &space, &space_len);
        if (space_result != AZURE_DPS_OK) {
            return space_result;
        }
        size_t len = rest < piece ? rest : piece;
        len = len < space_len ? len : space_len;
        memcpy(space, bytes, len);
        bytes += len;
        rest -= len;
        result = azure_dps_http_received(&device->dps, now, device->buffer, sizeof device->buffer, len,
                                         keep_alive);
        if (len == 0) {
            break;
        }
    }
    return result;
}

void exchange(device *device, uint32_t now, const char *status, const char *headers, const char *body)
{
    request(device, now);
    CHECK_INT(answer(device, now, http(status, headers, body), 1000, NULL), 1);
}

azure_dps_result run_to(device *device, const char *status, const char *body,
                        azure_dps_assignment *assignment)
{
    begin(device);
    exchange(device, 0, status, "", body);
    return azure_dps_get_assignment(&device->dps, device->buffer, sizeof device->buffer, assignment);
}

azure_dps_error error_of(const device *device)
{
    azure_dps_error error;
    azure_dps_result result = azure_dps_get_error(&device->dps, &error);
    CHECK_INT(result, error.result);
    return error;
}

azure_dps_result result_of(const device *device)
{
    azure_dps_error error;
    return azure_dps_get_error(&device->dps, &error);
}

/* ---- A connection that follows a script ---- */

static int32_t peer_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    peer *peer = (struct peer *)ctx;
    CHECK(!peer->is_open);
    int32_t result = peer->connected < 16 ? peer->connects[peer->connected] : 0;
    peer->connected++;
    snprintf(peer->host, sizeof peer->host, "%s", host);
    peer->port = port;
    peer->connect_timeout = timeout_ms;
    if (result == 0) {
        peer->is_open = true;
        peer->open_count++;
        peer->writing = false;
        peer->answered = false;
        peer->rest_len = 0;
    }
    return result;
}

static bool says_again(peer *peer)
{
    if (peer->asked_again < peer->again) {
        peer->asked_again++;
        peer->now += peer->again_ms;
        return true;
    }
    peer->asked_again = 0;
    return false;
}

static int32_t peer_write(void *ctx, const uint8_t *bytes, size_t len)
{
    peer *peer = (struct peer *)ctx;
    CHECK(peer->is_open && len > 0);
    if (peer->write_result != 0) {
        return peer->write_result;
    }
    if (peer->closes && peer->answered) {
        return -1;
    }
    if (says_again(peer)) {
        return AZURE_DPS_IO_AGAIN;
    }
    len = len < peer->piece ? len : peer->piece;
    if (!peer->writing) {
        peer->requests++;
        peer->writing = true;
    }
    if (CHECK(peer->sent_len + len < sizeof peer->sent)) {
        memcpy(peer->sent + peer->sent_len, bytes, len);
        peer->sent_len += len;
    }
    return (int32_t)len;
}

static int32_t peer_read(void *ctx, uint8_t *buffer, size_t size)
{
    peer *peer = (struct peer *)ctx;
    CHECK(peer->is_open && size > 0);
    if (peer->writing) {
        peer->writing = false;
        peer->rest = peer->next < peer->answers_len ? peer->answers[peer->next] : NULL;
        peer->next++;
        peer->rest_len = peer->rest == NULL ? 0 : strlen(peer->rest);
    }
    if (peer->rest == NULL) {
        peer->now += peer->again_ms;
        return peer->read_result;
    }
    if (says_again(peer)) {
        return AZURE_DPS_IO_AGAIN;
    }
    size_t len = size < peer->piece ? size : peer->piece;
    len = len < peer->rest_len ? len : peer->rest_len;
    memcpy(buffer, peer->rest, len);
    peer->rest += len;
    peer->rest_len -= len;
    peer->answered = true;
    return (int32_t)len;
}

static void peer_close(void *ctx)
{
    peer *peer = (struct peer *)ctx;
    CHECK(peer->is_open);
    peer->is_open = false;
    peer->closed++;
}

static uint32_t peer_clock(void *ctx)
{
    return ((const struct peer *)ctx)->now;
}

static void peer_delay(void *ctx, uint32_t ms)
{
    peer *peer = (struct peer *)ctx;
    if (CHECK(peer->waits_len < 32)) {
        peer->waits[peer->waits_len++] = ms;
    }
    peer->now += ms;
}

static void peer_observe(void *ctx, const azure_dps_progress *progress)
{
    peer *peer = (struct peer *)ctx;
    if (CHECK(peer->progress_len < 64)) {
        peer->progress[peer->progress_len++] = *progress;
    }
}

azure_dps_io io_of(peer *peer)
{
    azure_dps_io io = {peer,       peer_connect, peer_read,  peer_write,
                       peer_close, peer_clock,   peer_delay, peer_observe};
    return io;
}

azure_dps_result run(device *device, peer *peer)
{
    azure_dps_io io = io_of(peer);
    if (peer->piece == 0) {
        peer->piece = SIZE_MAX;
    }
    azure_dps_result result =
        azure_dps_run(&device->dps, UNIX_TIME, &device->signer, device->buffer, sizeof device->buffer, &io);
    CHECK_INT(peer->closed, peer->open_count);
    peer->sent[peer->sent_len] = '\0';
    return result;
}
