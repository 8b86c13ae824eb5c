/* azure_dps_run() with scripted callbacks: pieces, AGAIN, closed and stalled connections, rejections, and
 * wrong use. */
#include <stdio.h>
#include <string.h>

#include "support.h"

#define REFUSED_KEY "{\"errorCode\":401002,\"trackingId\":\"" TRACKING_ID "\",\"message\":\"Unauthorized\"}"

/* A device, and a peer that assigns the device at the first poll. */
static void tutorial(device *device, peer *peer)
{
    toaster(device);
    CHECK_INT(azure_dps_init(&device->dps, &device->config), AZURE_DPS_OK);
    memset(peer, 0, sizeof *peer);
    peer->answers[0] = http("202 Accepted", "Retry-After: 3\r\n", assigning());
    peer->answers[1] = http("200 OK", "", assigned());
    peer->answers_len = 2;
}

static void check_assigned(device *device)
{
    azure_dps_assignment assignment;
    if (CHECK_INT(azure_dps_get_assignment(&device->dps, device->buffer, sizeof device->buffer, &assignment),
                  AZURE_DPS_OK)) {
        CHECK_STR(assignment.assigned_hub, TOASTERS_HUB);
        CHECK_STR(assignment.device_id, TOASTER);
    }
    CHECK_INT(result_of(device), AZURE_DPS_OK);
}

static void check_progress(const peer *peer, const int32_t *expected, size_t len)
{
    CHECK_INT(peer->progress_len, len);
    for (size_t i = 0; i < len && i < peer->progress_len; i++) {
        row(format("progress %lu", (unsigned long)i));
        CHECK_INT(peer->progress[i].what, expected[i]);
    }
}

static void the_tutorial_in_pieces_of_every_kind(void)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 7, 100};
    for (size_t i = 0; i < 4; i++) {
        for (unsigned again = 0; again < 3; again += 2) {
            for (int chunked = 0; chunked < 2; chunked++) {
                device device;
                peer peer;
                tutorial(&device, &peer);
                row(format("pieces of %lu, again %u", (unsigned long)pieces[i], again));
                if (chunked) {
                    peer.answers[0] = http_chunked("202 Accepted", "Retry-After: 3\r\n", assigning(), 9);
                    peer.answers[1] = http_chunked("200 OK", "", assigned(), 100);
                }
                peer.piece = pieces[i];
                peer.again = again;
                CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
                check_assigned(&device);
                CHECK_INT(peer.connected, 1);
                CHECK_INT(peer.requests, 2);
                CHECK_INT(peer.waits_len, 1);
                CHECK_INT(peer.waits[0], 3000);
                CHECK_STR(str(peer.host), ENDPOINT);
                CHECK_INT(peer.port, 443);
                CHECK_INT(peer.connect_timeout, 60000);
                CHECK(strncmp(peer.sent, "PUT /" SCOPE "/registrations/" TOASTER "/register?", 67) == 0);
                CHECK(contains(peer.sent,
                               "}GET /" SCOPE "/registrations/" TOASTER "/operations/" OPERATION "?"));
                CHECK(contains(peer.sent, "&se=1700003600&skn=registration\r\n"));
                static const int32_t expected[] = {AZURE_DPS_PROGRESS_CONNECTED,
                                                   AZURE_DPS_PROGRESS_REGISTERING,
                                                   AZURE_DPS_PROGRESS_ASSIGNING, AZURE_DPS_PROGRESS_ASSIGNED};
                check_progress(&peer, expected, 4);
                azure_dps_deinit(&device.dps);
            }
        }
    }
}

static void an_observer_is_optional(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    peer.piece = 1000;
    azure_dps_io io = io_of(&peer);
    io.observe = NULL;
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, &device.signer, device.buffer, sizeof device.buffer, &io),
              AZURE_DPS_OK);
    check_assigned(&device);
    azure_dps_deinit(&device.dps);
}

/* The service may close an idle connection between polls. This is not a failure. */
static void a_connection_closed_between_polls_is_opened_again(void)
{
    for (int by_read = 0; by_read < 2; by_read++) {
        device device;
        peer peer;
        tutorial(&device, &peer);
        row(by_read ? "read" : "write");
        if (by_read) {
            peer.answers[2] = peer.answers[1];
            peer.answers[1] = NULL;
            peer.answers_len = 3;
        } else {
            peer.closes = true;
        }
        CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
        check_assigned(&device);
        CHECK_INT(peer.connected, 2);
        CHECK_INT(peer.waits_len, 1);
        azure_dps_deinit(&device.dps);
    }
    /* With `Connection: close`, the run closes the old connection first. */
    device device;
    peer peer;
    tutorial(&device, &peer);
    peer.answers[0] = http("202 Accepted", "Retry-After: 3\r\nConnection: close\r\n", assigning());
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    CHECK_INT(peer.connected, 2);
    azure_dps_deinit(&device.dps);
}

static void a_silent_server_times_out(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    device.config.max_retries = 1;
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    peer.answers[0] = peer.answers[1] = NULL;
    peer.read_result = AZURE_DPS_IO_AGAIN;
    peer.again_ms = 1000;
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_STALLED);
    azure_dps_error error = error_of(&device);
    CHECK_INT(error.result, AZURE_DPS_ERR_STALLED);
    CHECK_INT(error.io_error, 0);
    CHECK_INT(error.fault, AZURE_DPS_FAULT_TRANSPORT);
    CHECK_INT(error.retryable, 1);
    CHECK_INT(peer.connected, 2);
    CHECK_INT(peer.waits_len, 1);
    CHECK_INT(peer.now, 2 * 60000 + peer.waits[0]);
    azure_dps_deinit(&device.dps);

    /* The service answers the second request. */
    tutorial(&device, &peer);
    peer.answers[2] = peer.answers[1];
    peer.answers[1] = peer.answers[0];
    peer.answers[0] = NULL;
    peer.answers_len = 3;
    peer.read_result = AZURE_DPS_IO_AGAIN;
    peer.again_ms = 30000;
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    azure_dps_deinit(&device.dps);

    /* One byte every 10 seconds is also too slow. */
    tutorial(&device, &peer);
    device.config.max_retries = 1;
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    peer.piece = 1;
    peer.again = 1;
    peer.again_ms = 10000;
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_STALLED);
    azure_dps_deinit(&device.dps);
}

static void retry_after_is_obeyed(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    peer.answers[2] = peer.answers[1];
    peer.answers[1] = peer.answers[0];
    peer.answers[0] =
        http("429 Too Many Requests", "Retry-After: 17\r\n", "{\"errorCode\":429001,\"trackingId\":\"\"}");
    peer.answers_len = 3;
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    CHECK_INT(peer.waits_len, 2);
    CHECK(17000 <= peer.waits[0] && peer.waits[0] <= 34000);
    CHECK_INT(peer.progress[2].what, AZURE_DPS_PROGRESS_RETRYING);
    CHECK_INT(peer.progress[2].result, AZURE_DPS_ERR_REFUSED);
    CHECK_INT(peer.progress[2].wait_ms, peer.waits[0]);
    CHECK_INT(peer.progress[2].failures, 1);
    CHECK_INT(peer.requests, 3);
    azure_dps_deinit(&device.dps);

    /* For ever. */
    tutorial(&device, &peer);
    for (size_t i = 0; i < 16; i++) {
        peer.answers[i] = http("429 Too Many Requests", "Retry-After: 170\r\n", "{\"errorCode\":429001}");
    }
    peer.answers_len = 16;
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_REFUSED);
    azure_dps_error error = error_of(&device);
    CHECK_INT(error.code, 429001);
    CHECK_INT(error.http_status, 429);
    CHECK_INT(error.fault, AZURE_DPS_FAULT_BUSY);
    CHECK_INT(error.retryable, 1);
    CHECK(peer.now <= 600000);
    azure_dps_deinit(&device.dps);
}

static void the_second_key_is_tried_if_the_first_is_refused(void)
{
    for (int both = 0; both < 2; both++) {
        device device;
        peer peer;
        tutorial(&device, &peer);
        row(both ? "both are refused" : "one is refused");
        CHECK_INT(azure_dps_key_from_base64(&device.keys[0], str(GROUP_KEY)), AZURE_DPS_OK);
        CHECK_INT(azure_dps_key_from_base64(&device.keys[1], str(TOASTER_KEY)), AZURE_DPS_OK);
        device.signer = azure_dps_two_keys_signer(device.keys);
        peer.answers[2] = peer.answers[1];
        peer.answers[1] = peer.answers[0];
        peer.answers[0] = http("401 Unauthorized", "", REFUSED_KEY);
        if (both) {
            peer.answers[1] = peer.answers[0];
        }
        peer.answers_len = 3;
        CHECK_INT(run(&device, &peer), both ? AZURE_DPS_ERR_REFUSED : AZURE_DPS_OK);
        CHECK_INT(azure_dps_get_key(&device.dps), AZURE_DPS_SECONDARY_KEY);
        CHECK_INT(peer.requests, both ? 2 : 3);
        if (both) {
            azure_dps_error error = error_of(&device);
            CHECK_INT(error.code, 401002);
            CHECK_STR(str(error.tracking_id), TRACKING_ID);
            CHECK_INT(error.fault, AZURE_DPS_FAULT_CREDENTIAL);
        } else {
            check_assigned(&device);
            CHECK_INT(peer.connected, 1);
        }
        azure_dps_deinit(&device.dps);
        azure_dps_key_wipe(&device.keys[0]);
        azure_dps_key_wipe(&device.keys[1]);
    }
}

static void a_connection_that_cannot_be_made(void)
{
    static const azure_dps_result final[] = {AZURE_DPS_ERR_UNTRUSTED, AZURE_DPS_ERR_PROXY_REFUSED};
    for (size_t i = 0; i < 2; i++) {
        device device;
        peer peer;
        tutorial(&device, &peer);
        row(azure_dps_result_name(final[i]));
        peer.connects[0] = final[i];
        CHECK_INT(run(&device, &peer), final[i]);
        CHECK_INT(error_of(&device).result, final[i]);
        CHECK_INT(peer.connected, 1);
        CHECK_INT(peer.waits_len, 0);
        CHECK_INT(peer.closed, 0);
        CHECK_INT(error_of(&device).io_error, final[i]);
        /* Another run does not have this number. */
        CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
        CHECK_INT(azure_dps_on_error(&device.dps, 0, final[i]), AZURE_DPS_OK);
        CHECK_INT(error_of(&device).result, final[i]);
        CHECK_INT(error_of(&device).io_error, 0);
        azure_dps_deinit(&device.dps);
    }
    device device;
    peer peer;
    /* Twice. */
    tutorial(&device, &peer);
    peer.connects[0] = -5;
    peer.connects[1] = INT32_MIN;
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    CHECK_INT(error_of(&device).io_error, 0);
    CHECK_INT(peer.connected, 3);
    CHECK_INT(peer.waits_len, 3);
    static const int32_t expected[] = {AZURE_DPS_PROGRESS_RETRYING,  AZURE_DPS_PROGRESS_RETRYING,
                                       AZURE_DPS_PROGRESS_CONNECTED, AZURE_DPS_PROGRESS_REGISTERING,
                                       AZURE_DPS_PROGRESS_ASSIGNING, AZURE_DPS_PROGRESS_ASSIGNED};
    check_progress(&peer, expected, 6);
    CHECK_INT(peer.progress[1].failures, 2);
    CHECK_INT(peer.progress[1].result, AZURE_DPS_ERR_CONNECT);
    azure_dps_deinit(&device.dps);
    /* Every time: the first attempt and 8 retries, within the time-out of the run. */
    tutorial(&device, &peer);
    for (size_t i = 0; i < 16; i++) {
        peer.connects[i] = -5;
    }
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_CONNECT);
    azure_dps_error error = error_of(&device);
    CHECK_INT(error.io_error, -5);
    CHECK_INT(error.fault, AZURE_DPS_FAULT_TRANSPORT);
    CHECK(peer.connected >= 7 && peer.connected <= 9);
    azure_dps_deinit(&device.dps);
}

static void a_stream_that_fails(void)
{
    static const struct {
        int32_t read_result, write_result;
        azure_dps_result result;
        int32_t io_error;
    } rows[] = {
        {-9, 0, AZURE_DPS_ERR_STREAM, -9},
        {INT32_MIN, 0, AZURE_DPS_ERR_STREAM, INT32_MIN},
        {0, 0, AZURE_DPS_ERR_CLOSED, 0},
        {0, -77, AZURE_DPS_ERR_STREAM, -77},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        peer peer;
        row(format("%lu", (unsigned long)i));
        tutorial(&device, &peer);
        device.config.max_retries = 2;
        CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
        peer.answers_len = 0;
        peer.read_result = rows[i].read_result;
        peer.write_result = rows[i].write_result;
        CHECK_INT(run(&device, &peer), rows[i].result);
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, rows[i].result);
        CHECK_INT(error.io_error, rows[i].io_error);
        CHECK_INT(peer.connected, 3);
        CHECK_INT(peer.waits_len, 2);
        azure_dps_deinit(&device.dps);
        /* Once. */
        if (rows[i].write_result == 0) {
            tutorial(&device, &peer);
            peer.answers[2] = peer.answers[1];
            peer.answers[1] = peer.answers[0];
            peer.answers[0] = NULL;
            peer.answers_len = 3;
            peer.read_result = rows[i].read_result;
            CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
            check_assigned(&device);
            CHECK_INT(error_of(&device).io_error, 0);
            azure_dps_deinit(&device.dps);
        }
    }
}

/* ---- Callbacks that do what they must not ---- */

static int32_t reads_too_much(void *ctx, uint8_t *buffer, size_t size)
{
    (void)ctx;
    memset(buffer, 'x', size);
    return size < INT32_MAX ? (int32_t)size + 1 : INT32_MAX;
}

static int32_t writes_too_much(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    return (int32_t)len + 1;
}

static int32_t writes_nothing(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    return 0;
}

static void impossible_byte_counts_do_no_harm(void)
{
    for (int i = 0; i < 3; i++) {
        device device;
        peer peer;
        row(format("%d", i));
        tutorial(&device, &peer);
        peer.piece = 1000;
        azure_dps_io io = io_of(&peer);
        if (i == 0) {
            io.read = reads_too_much;
        } else {
            io.write = i == 1 ? writes_too_much : writes_nothing;
        }
        void *buffer = exact(1024);
        azure_dps_result result = azure_dps_run(&device.dps, UNIX_TIME, &device.signer, buffer, 1024, &io);
        CHECK(i == 1 || result < 0);
        CHECK_INT(peer.closed, peer.open_count);
        azure_dps_deinit(&device.dps);
    }
}

/* A callback that calls functions on the running client and stores their results. */
typedef struct intruder {
    peer peer;
    azure_dps_client *dps;
    unsigned calls, refused;
} intruder;

static void expect_refusal(intruder *intruder, azure_dps_result result)
{
    intruder->calls++;
    intruder->refused += result == AZURE_DPS_ERR_HANDLE;
}

static void intrude(intruder *intruder)
{
    azure_dps_error error;
    azure_dps_assignment assignment;
    azure_dps_progress progress;
    char text[100];
    uint32_t wait;
    azure_dps_client *dps = intruder->dps;
    expect_refusal(intruder, azure_dps_start(dps, 0, 0));
    expect_refusal(intruder, azure_dps_step(dps, 0, &wait));
    expect_refusal(intruder, azure_dps_set_endpoint(dps, str("localhost")));
    expect_refusal(intruder, azure_dps_get_key(dps));
    expect_refusal(intruder, azure_dps_get_error(dps, &error));
    expect_refusal(intruder, azure_dps_get_assignment(dps, text, 0, &assignment));
    expect_refusal(intruder, azure_dps_get_progress(dps, &progress));
    expect_refusal(intruder, azure_dps_write_message(dps, text, sizeof text, NULL));
    expect_refusal(intruder, azure_dps_mqtt_write_client_id(dps, text, sizeof text, NULL));
    expect_refusal(intruder, azure_dps_on_error(dps, 0, AZURE_DPS_ERR_CONNECT));
    CHECK_INT(azure_dps_request_time_left(dps, 0), 0);
    azure_dps_on_connected(dps);
    azure_dps_deinit(dps);
}

static int32_t intruding_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    intruder *intruder = (struct intruder *)ctx;
    intrude(intruder);
    azure_dps_io io = io_of(&intruder->peer);
    return io.connect(ctx, host, port, timeout_ms);
}

static void intruding_observe(void *ctx, const azure_dps_progress *progress)
{
    (void)progress;
    intrude((intruder *)ctx);
}

static int32_t intruding_sign(void *ctx, const uint8_t *message, size_t len, uint8_t *signature)
{
    (void)message;
    (void)len;
    memset(signature, 1, 32);
    intrude((intruder *)ctx);
    return 0;
}

static void callbacks_cannot_use_the_client(void)
{
    device device;
    intruder intruder;
    memset(&intruder, 0, sizeof intruder);
    tutorial(&device, &intruder.peer);
    intruder.peer.piece = 1000;
    intruder.dps = &device.dps;
    azure_dps_io io = io_of(&intruder.peer);
    io.connect = intruding_connect;
    io.observe = intruding_observe;
    azure_dps_signer signer = {&intruder, intruding_sign, NULL, NULL};
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, &signer, device.buffer, sizeof device.buffer, &io),
              AZURE_DPS_OK);
    check_assigned(&device);
    CHECK(intruder.calls >= 50);
    CHECK_INT(intruder.refused, intruder.calls);
    /* The same in azure_dps_sign(). */
    intruder.calls = intruder.refused = 0;
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(&device.dps, &signer, device.buffer, sizeof device.buffer), AZURE_DPS_OK);
    CHECK_INT(intruder.calls, 10);
    CHECK_INT(intruder.refused, 10);
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    azure_dps_deinit(&device.dps);
}

static void wrong_arguments_of_run(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    peer.piece = 1000;
    azure_dps_signer *signer = &device.signer;
    void *buffer = device.buffer;
    size_t size = sizeof device.buffer;
    azure_dps_io io = io_of(&peer);
    for (int member = 0; member < 6; member++) {
        azure_dps_io wrong = io;
        row(format("%d", member));
        switch (member) {
        case 0: wrong.connect = NULL; break;
        case 1: wrong.read = NULL; break;
        case 2: wrong.write = NULL; break;
        case 3: wrong.close = NULL; break;
        case 4: wrong.clock_ms = NULL; break;
        default: wrong.delay_ms = NULL; break;
        }
        CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, signer, buffer, size, &wrong),
                  AZURE_DPS_ERR_ARGUMENT);
    }
    CHECK_INT(azure_dps_run(NULL, UNIX_TIME, signer, buffer, size, &io), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, signer, buffer, size, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, signer, NULL, size, &io), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(peer.connected, 0);
    /* No signer, or a signer without callbacks, for a device with a key. */
    CHECK(azure_dps_run(&device.dps, UNIX_TIME, NULL, buffer, size, &io) < 0);
    CHECK_INT(peer.connected, 0);
    azure_dps_signer none = {NULL, NULL, NULL, NULL};
    CHECK(azure_dps_run(&device.dps, UNIX_TIME, &none, buffer, size, &io) < 0);
    CHECK_INT(peer.connected, 0);
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, signer, buffer, size, &io), AZURE_DPS_OK);
    check_assigned(&device);
    azure_dps_deinit(&device.dps);
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, signer, buffer, size, &io), AZURE_DPS_ERR_HANDLE);
}

static void a_certificate_needs_no_signer(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    azure_dps_io io = io_of(&peer);
    peer.piece = 1000;
    device.config.attestation = AZURE_DPS_X509;
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_run(&device.dps, 0, NULL, device.buffer, sizeof device.buffer, &io), AZURE_DPS_OK);
    check_assigned(&device);
    peer.sent[peer.sent_len] = '\0';
    CHECK(!contains(peer.sent, "Authorization"));
    azure_dps_deinit(&device.dps);
}

static void a_small_buffer_error_names_the_needed_size(void)
{
    size_t size = 0;
    azure_dps_result result = AZURE_DPS_ERR_BUFFER_TOO_SMALL;
    for (int tries = 0; tries < 20 && result == AZURE_DPS_ERR_BUFFER_TOO_SMALL; tries++) {
        device device;
        peer peer;
        tutorial(&device, &peer);
        peer.piece = 1000;
        azure_dps_io io = io_of(&peer);
        row(format("%lu", (unsigned long)size));
        void *buffer = exact(size);
        result = azure_dps_run(&device.dps, UNIX_TIME, &device.signer, buffer, size, &io);
        if (result == AZURE_DPS_ERR_BUFFER_TOO_SMALL) {
            azure_dps_error error = error_of(&device);
            CHECK_INT(error.result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK(error.needed > size);
            size = error.needed;
        } else {
            azure_dps_assignment assignment;
            CHECK_INT(result, AZURE_DPS_OK);
            CHECK_INT(azure_dps_get_assignment(&device.dps, buffer, size, &assignment), AZURE_DPS_OK);
            CHECK(size < 1100);
        }
        azure_dps_deinit(&device.dps);
    }
    CHECK_INT(result, AZURE_DPS_OK);
}

static void the_clock_may_wrap_and_the_run_ends_in_time(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    peer.now = 0xfffffc00u;
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    CHECK_INT(peer.now, 3000 - 0x400);
    azure_dps_deinit(&device.dps);

    tutorial(&device, &peer);
    for (size_t i = 0; i < 16; i++) {
        peer.answers[i] = http("202 Accepted", "Retry-After: 100\r\n", assigning());
    }
    peer.answers_len = 16;
    peer.now = 0xfffffc00u;
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_STILL_ASSIGNING);
    CHECK(peer.now + 0x400 <= 600000);
    CHECK_INT(peer.requests, 6);
    azure_dps_deinit(&device.dps);
}

static void a_client_can_run_again(void)
{
    device device;
    peer peer;
    tutorial(&device, &peer);
    CHECK_INT(azure_dps_set_endpoint(&device.dps, exact_str("localhost:8443")), AZURE_DPS_OK);
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    CHECK_STR(str(peer.host), "localhost");
    CHECK_INT(peer.port, 8443);
    peer.next = 0;
    peer.answers[0] = http("403 Forbidden", "", "{\"errorCode\":403204}");
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_REFUSED);
    CHECK_INT(error_of(&device).code, 403204);
    peer.next = 0;
    peer.answers[0] = http("200 OK", "", assigned());
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    check_assigned(&device);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(the_tutorial_in_pieces_of_every_kind);
    RUN(an_observer_is_optional);
    RUN(a_connection_closed_between_polls_is_opened_again);
    RUN(a_silent_server_times_out);
    RUN(retry_after_is_obeyed);
    RUN(the_second_key_is_tried_if_the_first_is_refused);
    RUN(a_connection_that_cannot_be_made);
    RUN(a_stream_that_fails);
    RUN(impossible_byte_counts_do_no_harm);
    RUN(callbacks_cannot_use_the_client);
    RUN(wrong_arguments_of_run);
    RUN(a_certificate_needs_no_signer);
    RUN(a_small_buffer_error_names_the_needed_size);
    RUN(the_clock_may_wrap_and_the_run_ends_in_time);
    RUN(a_client_can_run_again);
    return finish();
}
