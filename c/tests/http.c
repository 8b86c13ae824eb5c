/* HTTP: the bytes of requests, and answers in pieces of every size, with every framing, valid and broken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* The result of reading an answer. */
typedef struct reading {
    int32_t result; /* 1, or AZURE_DPS_ERR_* */
    size_t needed;  /* of azure_dps_http_space() */
    bool keep_alive;
    azure_dps_error error;
    uint32_t wait; /* until the next request, if there is one */
} reading;

/* Reads an answer to a register request in pieces, with a buffer of this size. Then the connection ends. */
static reading read_answer(const char *bytes, size_t piece, size_t size)
{
    device device;
    reading reading;
    uint8_t *buffer = (uint8_t *)exact(size);
    memset(&reading, 0, sizeof reading);
    certified(&device, TOASTER);
    begin(&device);
    request(&device, 0);
    size_t rest = strlen(bytes);
    while (reading.result == 0) {
        uint8_t *space = NULL;
        size_t space_len = 0;
        reading.result = azure_dps_http_space(&device.dps, 0, buffer, size, &space, &space_len);
        if (reading.result != AZURE_DPS_OK) {
            reading.needed = space_len;
            break;
        }
        CHECK(space >= buffer && space_len > 0 && space + space_len <= buffer + size);
        size_t len = rest < piece ? rest : piece;
        len = len < space_len ? len : space_len;
        memcpy(space, bytes, len);
        bytes += len;
        rest -= len;
        reading.result = azure_dps_http_received(&device.dps, 0, buffer, size, len, &reading.keep_alive);
        if (len == 0 && !CHECK(reading.result != 0)) {
            break;
        }
    }
    int32_t next = azure_dps_step(&device.dps, 0, &reading.wait);
    CHECK(next == AZURE_DPS_WAIT || next == AZURE_DPS_FINISHED || next == AZURE_DPS_SEND);
    if (next == AZURE_DPS_FINISHED) {
        reading.error = error_of(&device);
    }
    azure_dps_deinit(&device.dps);
    return reading;
}

static void requests_are_written_byte_for_byte(void)
{
    device device;
    toaster(&device);
    begin(&device);
    char token[512];
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, token, sizeof token, NULL), AZURE_DPS_OK);
    const char *head =
        "Host: " ENDPOINT "\r\nUser-Agent: azure-dps/" VERSION "\r\nAccept: application/json\r\n";
    const char *body = "{\"registrationId\":\"" TOASTER "\",\"payload\":" PAYLOAD "}";
    CHECK_STR(str(request(&device, 0)),
              format("PUT /" SCOPE "/registrations/" TOASTER "/register?api-version=2021-06-01 HTTP/1.1\r\n"
                     "%sAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %lu\r\n\r\n%s",
                     head, token, (unsigned long)strlen(body), body));
    CHECK_INT(answer(&device, 0, http("202 Accepted", "Retry-After: 3\r\n", assigning()), 1000, NULL), 1);
    CHECK_STR(str(request(&device, 3000)),
              format("GET /" SCOPE "/registrations/" TOASTER "/operations/" OPERATION
                     "?api-version=2021-06-01 HTTP/1.1\r\n%sAuthorization: %s\r\n\r\n",
                     head, token));
    CHECK_INT(answer(&device, 3000, http("200 OK", "", assigned()), 1000, NULL), 1);
    azure_dps_deinit(&device.dps);

    certified(&device, "a:b");
    begin(&device);
    CHECK_STR(
        str(request(&device, 0)),
        format("PUT /" SCOPE "/registrations/a%%3Ab/register?api-version=2021-06-01 HTTP/1.1\r\n"
               "%sContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{\"registrationId\":\"a:b\"}",
               head));
    azure_dps_deinit(&device.dps);

    /* A look-up has no payload. */
    toaster(&device);
    device.config.lookup = 1;
    device.config.attestation = AZURE_DPS_X509;
    begin(&device);
    body = "{\"registrationId\":\"" TOASTER "\"}";
    CHECK_STR(str(request(&device, 0)),
              format("POST /" SCOPE "/registrations/" TOASTER "?api-version=2021-06-01 HTTP/1.1\r\n"
                     "%sContent-Type: application/json\r\nContent-Length: %lu\r\n\r\n%s",
                     head, (unsigned long)strlen(body), body));
    azure_dps_deinit(&device.dps);
}

static void a_request_is_written_into_a_buffer_that_is_large_enough(void)
{
    device device;
    toaster(&device);
    begin(&device);
    for (int poll = 0; poll < 2; poll++) {
        uint32_t now = poll ? 3000 : 0;
        size_t needed = 0, again = 0, len = 0;
        row(poll ? "poll" : "register");
        CHECK_INT(step(&device, now), AZURE_DPS_SEND);
        CHECK_INT(azure_dps_http_write_request(&device.dps, now, NULL, 0, &needed),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        for (size_t size = 1; size < needed; size += needed / 5) {
            CHECK_INT(azure_dps_http_write_request(&device.dps, now, exact(size), size, &again),
                      AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK_INT(again, needed);
        }
        CHECK_INT(azure_dps_http_write_request(&device.dps, now, exact(needed - 1), needed - 1, NULL),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(step(&device, now), AZURE_DPS_SEND);
        CHECK_INT(azure_dps_http_write_request(&device.dps, now, exact(needed), needed, &len), AZURE_DPS_OK);
        /* The required size is enough for any signature. */
        CHECK(len <= needed && needed - len <= 2 * 42);
        CHECK_INT(answer(&device, now, http("202 Accepted", "Retry-After: 3\r\n", assigning()), 1000, NULL),
                  1);
    }
    azure_dps_deinit(&device.dps);
}

static void the_services_answers_in_pieces_of_every_size(void)
{
    const char *retry =
        "Retry-After: 3\r\nLocation: https://" ENDPOINT "/" SCOPE "/registrations/" TOASTER "/register\r\n";
    const struct {
        const char *bytes;
        bool is_assigned;
    } rows[] = {
        {http("202 Accepted", retry, assigning()), false},
        {http_chunked("202 Accepted", retry, assigning(), 1), false},
        {http("200 OK", "", assigned()), true},
        {http_chunked("200 OK", "", assigned(), 7), true},
        {http_chunked("200 OK", "", assigned(), 4096), true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].bytes);
        for (size_t piece = 1; piece <= len; piece += piece < 20 ? 1 : 61) {
            device device;
            azure_dps_assignment assignment;
            bool keep_alive = false;
            row(format("%lu, pieces of %lu", (unsigned long)i, (unsigned long)piece));
            certified(&device, TOASTER);
            begin(&device);
            request(&device, 0);
            CHECK_INT(answer(&device, 0, rows[i].bytes, piece, &keep_alive), 1);
            CHECK(keep_alive);
            azure_dps_result result =
                azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &assignment);
            if (rows[i].is_assigned) {
                CHECK_INT(result, AZURE_DPS_OK);
                CHECK_STR(assignment.assigned_hub, TOASTERS_HUB);
                CHECK_BYTES(device.buffer, assigned(), strlen(assigned()));
            } else {
                CHECK_INT(result, AZURE_DPS_ERR_NOT_FINISHED);
                CHECK_INT(wait_of(&device, 0), 3000);
            }
            azure_dps_deinit(&device.dps);
        }
    }
}

static void an_answer_cut_at_any_byte_is_incomplete(void)
{
    const char *answers[] = {http("200 OK", "", assigned()), http_chunked("200 OK", "", assigned(), 16)};
    for (size_t i = 0; i < 2; i++) {
        for (size_t len = 0; len < strlen(answers[i]); len += 11) {
            row(format("%lu", (unsigned long)len));
            reading reading = read_answer(format("%.*s", (int)len, answers[i]), 64, 2048);
            CHECK_INT(reading.result, AZURE_DPS_ERR_CLOSED);
            CHECK(5000 <= reading.wait && reading.wait <= 7500);
        }
    }
}

/* The body of each is `{}`: valid framing, but not an answer of DPS. */
static void framing(void)
{
    static const struct {
        const char *text;
        uint16_t status;
        bool keep_alive;
    } rows[] = {
        {"HTTP/1.1 404 Not\r\nContent-Length: 2\r\n\r\n{}", 404, true},
        {"HTTP/1.1 404\r\ncontent-length:2\r\n\r\n{}", 404, true},
        {"HTTP/1.1 404 Not\nContent-Length: 2\n\n{}", 404, true},
        {"HTTP/1.1 404 Not\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 404, true},
        {"HTTP/1.1 404 Not\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n{}", 404, false},
        {"HTTP/1.1 404 Not\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\n{}", 404, false},
        {"HTTP/1.0 404 Not\r\nContent-Length: 2\r\n\r\n{}", 404, false},
        {"HTTP/1.0 404 Not\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}", 404, true},
        {"HTTP/1.1 404 Not\r\n\r\n{}", 404, false},
        {"HTTP/1.1 404 Not\r\n\r\n", 404, false},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, false},
        {"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, false},
        {"HTTP/1.1 304 Not Modified\r\n\r\n", 304, true},
        {"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403, true},
        {"HTTP/1.1 404 Not\r\nTransfer-Encoding: CHUNKED\r\n\r\n2;ext=1\r\n{}\r\n0\r\n\r\n", 404, true},
        {"HTTP/1.1 404 Not\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", 404,
         true},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not\r\nContent-Length: 2\r\n\r\n{}", 404, true},
        {"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 Not\r\nContent-Length: 2\r\n\r\n{}", 404, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(rows[i].text);
        reading reading = read_answer(rows[i].text, 5, 256);
        CHECK_INT(reading.result, 1);
        CHECK_INT(reading.error.result, AZURE_DPS_ERR_REFUSED);
        CHECK_INT(reading.error.http_status, rows[i].status);
        CHECK_INT(reading.keep_alive, rows[i].keep_alive);
    }
    /* Bytes after an answer end the connection. */
    reading reading = read_answer("HTTP/1.1 404 Not\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK", 100, 256);
    CHECK_INT(reading.result, 1);
    CHECK(!reading.keep_alive);
}

static void retry_after(void)
{
    static const struct {
        const char *value;
        uint32_t shortest, longest;
    } rows[] = {
        {"0", 1000, 1000},         {"3", 3000, 3000},
        {" 120 ", 120000, 120000}, {"99999999999999999999", 300000, 300000},
        {"-1", 3000, 4500},        {"1.5", 3000, 4500},
        {"", 3000, 4500},          {"Wed, 21 Oct 2026 07:28:00 GMT", 3000, 4500},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(rows[i].value);
        const char *text = http("202 A", format("retry-AFTER: %s\r\n", rows[i].value), assigning());
        reading reading = read_answer(text, 100, 1024);
        CHECK_INT(reading.result, 1);
        CHECK(rows[i].shortest <= reading.wait && reading.wait <= rows[i].longest);
    }
}

static void invalid_http_is_malformed(void)
{
#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    const char *const rows[] = {
        "garbage\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n",
        "\x16\x03\x03",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED "x\r\n",
        CHUNKED "2\r\n{}x",
        CHUNKED "-2\r\n",
        CHUNKED "\r\n\r\n",
        CHUNKED ";x\r\n\r\n",
        CHUNKED "2\r\n{}\r\n\r\n\r\n",
        CHUNKED "11111111111111111\r\n",
        format("HTTP/1.1 200 OK\r\n%s\r\n", repeat("X: y\r\n", 33)),
    };
    static const size_t pieces[] = {1, 3, 1000};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t j = 0; j < 3; j++) {
            row(rows[i]);
            reading reading = read_answer(rows[i], pieces[j], 512);
            CHECK_INT(reading.result, AZURE_DPS_ERR_MALFORMED);
            CHECK_INT(reading.error.result, AZURE_DPS_ERR_MALFORMED);
            CHECK_INT(reading.error.fault, AZURE_DPS_FAULT_PEER);
        }
    }
    const char *enough = format("HTTP/1.1 403 No\r\n%sContent-Length: 0\r\n\r\n", repeat("X: y\r\n", 31));
    CHECK_INT(read_answer(enough, 100, 512).result, 1);
}

/* A buffer that is too small for the answer ends the run. */
static void a_small_buffer_error_names_the_needed_size(void)
{
    size_t head = strlen(http("200 OK", "", ""));
    const char *with_length = http("200 OK", "", assigned());
    for (size_t size = head + 4; size < strlen(assigned()); size += 37) {
        row(format("%lu", (unsigned long)size));
        reading reading = read_answer(with_length, 16, size);
        CHECK_INT(reading.result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(reading.error.result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(reading.error.needed, strlen(assigned()));
    }
    CHECK_INT(read_answer(with_length, 16, strlen(assigned())).result, 1);
    CHECK_INT(read_answer(with_length, 16, strlen(assigned())).error.result, AZURE_DPS_OK);
    for (size_t size = 1; size < head; size += 17) {
        row(format("%lu", (unsigned long)size));
        reading reading = read_answer(with_length, 16, size);
        CHECK_INT(reading.result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(reading.error.needed, size + 1);
    }
    CHECK_INT(read_answer(with_length, 16, 0).result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(read_answer(CHUNKED "ffffff\r\n", 16, 1024).error.needed, 0xffffff);
    CHECK_INT(read_answer(format("HTTP/1.1 200 OK\r\n\r\n%s", repeat("x", 10000)), 16, 1024).error.needed,
              1025);
}

static void another_buffer_during_an_answer_is_an_error(void)
{
    static const size_t sizes[][2] = {{1024, 0}, {1024, 10}, {1024, 300}, {10, 1024}, {300, 299}};
    const char *bytes = http_chunked("200 OK", "", assigned(), 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t len = 1; len < 300; len += 23) {
            device device;
            uint8_t *space = NULL;
            size_t space_len = 0;
            size_t first = sizes[i][0], then = sizes[i][1];
            uint8_t *buffer = (uint8_t *)exact(first), *other = (uint8_t *)exact(then == 0 ? 1 : then);
            memset(other, '0', then);
            certified(&device, TOASTER);
            begin(&device);
            request(&device, 0);
            CHECK_INT(azure_dps_http_space(&device.dps, 0, buffer, first, &space, &space_len), AZURE_DPS_OK);
            size_t count = len < first ? len : first;
            memcpy(space, bytes, count);
            int32_t result = azure_dps_http_received(&device.dps, 0, buffer, first, count, NULL);
            CHECK_INT(result, 0);
            result = azure_dps_http_space(&device.dps, 0, other, then, &space, &space_len);
            if (result == AZURE_DPS_OK) {
                CHECK(space >= other && space + space_len <= other + then);
                result = azure_dps_http_received(&device.dps, 0, other, then, space_len, NULL);
                CHECK(result <= 1);
            }
            azure_dps_deinit(&device.dps);
        }
    }
    /* More bytes than fit. */
    device device;
    uint8_t *space = NULL;
    size_t space_len = 0;
    uint8_t *buffer = (uint8_t *)exact(64);
    memset(buffer, 'x', 64);
    certified(&device, TOASTER);
    begin(&device);
    request(&device, 0);
    CHECK_INT(azure_dps_http_space(&device.dps, 0, buffer, 64, &space, &space_len), AZURE_DPS_OK);
    CHECK(azure_dps_http_received(&device.dps, 0, buffer, 64, SIZE_MAX, NULL) < 0);
    azure_dps_deinit(&device.dps);
}

/* A request without an answer is written again, and its answer is read from the start. */
static void an_exchange_starts_again_after_an_error(void)
{
    device device;
    certified(&device, TOASTER);
    begin(&device);
    request(&device, 0);
    const char *bytes = http("200 OK", "", assigned());
    uint8_t *space = NULL;
    size_t space_len = 0;
    CHECK_INT(azure_dps_http_space(&device.dps, 0, device.buffer, sizeof device.buffer, &space, &space_len),
              AZURE_DPS_OK);
    memcpy(space, bytes, 100);
    CHECK_INT(azure_dps_http_received(&device.dps, 0, device.buffer, sizeof device.buffer, 100, NULL), 0);
    CHECK_INT(azure_dps_on_error(&device.dps, 0, AZURE_DPS_ERR_STALLED), AZURE_DPS_OK);
    uint32_t now = wait_of(&device, 0);
    request(&device, now);
    CHECK_INT(answer(&device, now, bytes, 33, NULL), 1);
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

static void the_look_up_reads_a_registration_state(void)
{
    device device;
    azure_dps_assignment assignment;
    const char *state = strstr(assigned(), "\"registrationState\":") + strlen("\"registrationState\":");
    state = format("%.*s", (int)strlen(state) - 1, state);
    certified(&device, TOASTER);
    device.config.lookup = 1;
    CHECK_INT(run_to(&device, "200 OK", state, &assignment), AZURE_DPS_OK);
    CHECK_STR(assignment.assigned_hub, TOASTERS_HUB);
    CHECK_STR(assignment.registration_state, state);
    azure_dps_deinit(&device.dps);
    static const char *const statuses[] = {"unassigned", "assigning"};
    for (size_t i = 0; i < 2; i++) {
        row(statuses[i]);
        CHECK_INT(run_to(&device, "200 OK",
                         format("{\"status\":\"%s\",\"registrationId\":\"" TOASTER "\"}", statuses[i]),
                         &assignment),
                  AZURE_DPS_ERR_UNASSIGNED);
        CHECK_INT(error_of(&device).fault, AZURE_DPS_FAULT_REFUSED);
        azure_dps_deinit(&device.dps);
    }
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(requests_are_written_byte_for_byte);
    RUN(a_request_is_written_into_a_buffer_that_is_large_enough);
    RUN(the_services_answers_in_pieces_of_every_size);
    RUN(an_answer_cut_at_any_byte_is_incomplete);
    RUN(framing);
    RUN(retry_after);
    RUN(invalid_http_is_malformed);
    RUN(a_small_buffer_error_names_the_needed_size);
    RUN(another_buffer_during_an_answer_is_an_error);
    RUN(an_exchange_starts_again_after_an_error);
    RUN(the_look_up_reads_a_registration_state);
    return finish();
}
