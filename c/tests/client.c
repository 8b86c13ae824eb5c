/* The client: configuration, endpoint, steps, signing, the clock of 32 bits, two devices at once. */
#include <stdio.h>
#include <string.h>

#include "support.h"

/* init() of a device with one member changed. */
static azure_dps_result init_of(device *device)
{
    memset(&device->dps, 0x5a, sizeof device->dps);
    return azure_dps_init(&device->dps, &device->config);
}

static void identifiers_follow_the_services_grammar(void)
{
    const char *long_id = repeat("a", 128), *long_scope = repeat("0", 64);
    const char *const good_ids[] = {"a", "7", "-", TOASTER, "SN-007", "a:b_c.d-", ".leading", long_id};
    const struct {
        const char *id;
        uint32_t position;
    } bad_ids[] = {
        {"", 0},         {"device 1", 6},
        {"device/1", 6}, {"ger\xc3\xa4t", 3},
        {"a\"b", 1},     {"a\r\nHost: b", 1},
        {"device.", 6},  {"device_", 6},
        {"device:", 6},  {format("%sa", long_id), 128},
    };
    const char *const good_scopes[] = {SCOPE, "0ne0099C5CB", "0cn0000990D", "a-._", long_scope};
    const struct {
        const char *scope;
        uint32_t position;
    } bad_scopes[] = {{"", 0}, {"0ne/..", 3}, {"0ne:", 3}, {format("%s0", long_scope), 64}};
    device device;
    certified(&device, TOASTER);
    for (size_t i = 0; i < sizeof good_ids / sizeof *good_ids; i++) {
        device.config.registration_id = exact_str(good_ids[i]);
        row(good_ids[i]);
        CHECK_INT(init_of(&device), AZURE_DPS_OK);
        azure_dps_deinit(&device.dps);
    }
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++) {
        device.config.registration_id = exact_str(bad_ids[i].id);
        row(bad_ids[i].id);
        CHECK_INT(init_of(&device), AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
        CHECK_INT(error.position, bad_ids[i].position);
        CHECK_INT(error.fault, AZURE_DPS_FAULT_CALLER);
        azure_dps_deinit(&device.dps);
    }
    device.config.registration_id = exact_str(TOASTER);
    for (size_t i = 0; i < sizeof good_scopes / sizeof *good_scopes; i++) {
        device.config.id_scope = exact_str(good_scopes[i]);
        row(good_scopes[i]);
        CHECK_INT(init_of(&device), AZURE_DPS_OK);
        azure_dps_deinit(&device.dps);
    }
    for (size_t i = 0; i < sizeof bad_scopes / sizeof *bad_scopes; i++) {
        device.config.id_scope = exact_str(bad_scopes[i].scope);
        row(bad_scopes[i].scope);
        CHECK_INT(init_of(&device), AZURE_DPS_ERR_INVALID_ID_SCOPE);
        CHECK_INT(error_of(&device).position, bad_scopes[i].position);
        azure_dps_deinit(&device.dps);
    }
}

static void payloads_are_one_json_object(void)
{
    const char *deepest = format("%s1%s", repeat("{\"a\":", 63), repeat("}", 63));
    const char *too_deep = format("%s1%s", repeat("{\"a\":", 64), repeat("}", 64));
    const char *const good[] = {"{}", " {} ", "{\"a\":1,\"b\":[true,null]}", deepest};
    const struct {
        const char *payload;
        uint32_t position;
    } bad[] = {
        {"[]", 0},          {"\"text\"", 0},   {"1", 0},       {"{} {}", 3},
        {"{\"a\":1", 6},    {"{\"a\":1,}", 7}, {"{'a':1}", 1}, {"{\"property2\":1, .. }", 16},
        {too_deep, 63 * 5},
    };
    device device;
    toaster(&device);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        row(good[i]);
        device.config.payload = exact_str(good[i]);
        begin(&device);
        CHECK(ends_with(request(&device, 0), format(",\"payload\":%s}", good[i])));
        azure_dps_deinit(&device.dps);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        row(bad[i].payload);
        device.config.payload = exact_str(bad[i].payload);
        CHECK_INT(init_of(&device), AZURE_DPS_ERR_INVALID_PAYLOAD);
        CHECK_INT(error_of(&device).position, bad[i].position);
        azure_dps_deinit(&device.dps);
    }
    /* An empty payload is no payload. */
    device.config.payload = exact_str("");
    begin(&device);
    CHECK(ends_with(request(&device, 0), "\r\n\r\n{\"registrationId\":\"" TOASTER "\"}"));
    azure_dps_deinit(&device.dps);
}

static void endpoints(void)
{
    static const struct {
        const char *text, *host, *authority;
        uint16_t port;
    } good[] = {
        {"global.azure-devices-provisioning.cn", "global.azure-devices-provisioning.cn",
         "global.azure-devices-provisioning.cn", 1},
        {"localhost:8443", "localhost", "localhost:8443", 8443},
        {"https://localhost:8443/", "localhost", "localhost:8443", 8443},
        {"HTTPS://[::1]:1", "[::1]", "[::1]:1", 1},
        {"[::1]", "[::1]", "[::1]", 1},
        {"https://host:443", "host", "host", 1},
    };
    static const char *const bad[] = {
        "",
        "https://",
        ":443",
        "host:",
        "host:0",
        "host:65536",
        "host:80:80",
        "host name",
        "host/path",
        "user@host",
        "::1",
        "[::1",
        "[host]",
        "ftp://localhost",
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0x7f000001",
        "http://10.0.0.1",
        "host\r\nX: y",
        "h\xc3\xb6st",
    };
    device device;
    char host[64];
    size_t len = 0;
    certified(&device, TOASTER);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint16_t port = 1;
        row(good[i].text);
        CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
        CHECK_INT(azure_dps_set_endpoint(&device.dps, exact_str(good[i].text)), AZURE_DPS_OK);
        CHECK_INT(azure_dps_write_host(&device.dps, host, sizeof host, &len, &port), AZURE_DPS_OK);
        CHECK_TEXT(host, len, good[i].host);
        CHECK_INT(port, good[i].port);
        size_t host_len = strlen(good[i].host);
        CHECK_INT(azure_dps_write_host(&device.dps, (char *)exact(host_len), host_len, &len, NULL),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(len, host_len + 1);
        CHECK_INT(azure_dps_write_host(&device.dps, (char *)exact(host_len + 1), host_len + 1, NULL, NULL),
                  AZURE_DPS_OK);
        CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_OK);
        CHECK(contains(request(&device, 0), format("\r\nHost: %s\r\n", good[i].authority)));
        azure_dps_deinit(&device.dps);
    }
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        row(bad[i]);
        CHECK_INT(azure_dps_set_endpoint(&device.dps, exact_str(bad[i])), AZURE_DPS_ERR_INVALID_ENDPOINT);
    }
    CHECK_INT(azure_dps_set_endpoint(&device.dps, exact_str("h\xf6st")), AZURE_DPS_ERR_ARGUMENT);
    /* The rejected endpoints changed nothing. */
    uint16_t port = AZURE_DPS_HTTPS_PORT;
    CHECK_INT(azure_dps_write_host(&device.dps, host, sizeof host, &len, &port), AZURE_DPS_OK);
    CHECK_TEXT(host, len, ENDPOINT);
    CHECK_INT(port, 443);
    azure_dps_deinit(&device.dps);
}

static void another_version_of_the_header_is_refused(void)
{
    device device;
    certified(&device, TOASTER);
    uint32_t sizes =
        (uint32_t)(sizeof(azure_dps_client) << 16 | sizeof(azure_dps_config) << 8 | sizeof(azure_dps_error));
    const struct {
        uint32_t abi, sizes;
    } rows[] = {{AZURE_DPS_ABI + 1, sizes},   {0, sizes},
                {AZURE_DPS_ABI, sizes + 1},   {AZURE_DPS_ABI, 0},
                {AZURE_DPS_ABI, sizes + 256}, {AZURE_DPS_ABI, sizes - 65536}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(format("%lu", (unsigned long)i));
        memset(&device.dps, 0, sizeof device.dps);
        CHECK_INT(azure_dps_init_abi(&device.dps, &device.config, rows[i].abi, rows[i].sizes),
                  AZURE_DPS_ERR_ABI);
        CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_ERR_HANDLE);
    }
    CHECK_INT(azure_dps_init_abi(&device.dps, &device.config, AZURE_DPS_ABI, sizes), AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

/* The error names the wrong member of the configuration. */
static void the_error_names_the_wrong_member_of_the_configuration(void)
{
    const azure_dps_str no_text = {NULL, 3}, not_utf8 = exact_str("\xff");
    const azure_dps_bytes no_bytes = {NULL, 3};
    for (int member = 0; member < 13; member++) {
        device device;
        toaster(&device);
        row(format("%d", member));
        azure_dps_config *config = &device.config;
        switch (member) {
        case 0: config->id_scope = no_text; break;
        case 1: config->id_scope = not_utf8; break;
        case 2: config->registration_id = no_text; break;
        case 3: config->registration_id = not_utf8; break;
        case 4: config->payload = no_text; break;
        case 5: config->payload = not_utf8; break;
        case 6: config->csr = no_bytes; break;
        case 7: config->attestation = AZURE_DPS_TPM, config->endorsement_key = no_bytes; break;
        case 8: config->attestation = AZURE_DPS_TPM, config->storage_root_key = no_bytes; break;
        case 9: config->api_version = not_utf8; break;
        case 10: config->attestation = 3; break;
        case 11: config->first_key = 2; break;
        default: config->api_version = no_text; break;
        }
        CHECK_INT(init_of(&device), AZURE_DPS_ERR_ARGUMENT);
        CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_ERR_HANDLE);
        azure_dps_deinit(&device.dps);
    }
    device device;
    toaster(&device);
    CHECK_INT(azure_dps_init(NULL, &device.config), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_init(&device.dps, NULL), AZURE_DPS_ERR_ARGUMENT);
}

/* Returns the message to sign. It contains the expiry. */
static const char *message_of(device *device)
{
    char buffer[256];
    size_t len = 0;
    CHECK_INT(azure_dps_write_message(&device->dps, buffer, sizeof buffer, &len), AZURE_DPS_OK);
    return format("%.*s", (int)len, buffer);
}

static void the_configuration_is_used(void)
{
    device device;
    /* The defaults. */
    toaster(&device);
    begin(&device);
    CHECK(contains(request(&device, 0), "?api-version=2021-06-01 HTTP/1.1\r\n"));
    CHECK_INT(azure_dps_request_time_left(&device.dps, 0), 60000);
    CHECK_INT(azure_dps_request_time_left(&device.dps, 59999), 1);
    CHECK_INT(azure_dps_request_time_left(&device.dps, 60000), 0);
    CHECK_INT(answer(&device, 0, http("202 Accepted", "", assigning()), 1000, NULL), 1);
    uint32_t wait = wait_of(&device, 0);
    CHECK(3000 <= wait && wait <= 4500);
    CHECK_INT(step(&device, 599999), AZURE_DPS_SEND);
    CHECK_INT(step(&device, 600000), AZURE_DPS_FINISHED);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_STILL_ASSIGNING);
    azure_dps_deinit(&device.dps);

    /* All other members. */
    toaster(&device);
    device.config.timeout_ms = 100000;
    device.config.request_timeout_ms = 20000;
    device.config.poll_interval_ms = 10000;
    device.config.token_lifetime_s = 200;
    device.config.max_retries = 1;
    device.config.api_version = exact_str("2019-03-31");
    device.config.max_body = 200;
    start(&device);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK_STR(str(message_of(&device)), SCOPE "%2fregistrations%2f" TOASTER "\n1700000200");
    sign(&device, 0);
    CHECK(contains(request(&device, 0), "?api-version=2019-03-31 HTTP/1.1\r\n"));
    CHECK_INT(azure_dps_request_time_left(&device.dps, 0), 20000);
    CHECK_INT(answer(&device, 0, http("202 Accepted", "", assigning()), 1000, NULL), 1);
    wait = wait_of(&device, 0);
    CHECK(10000 <= wait && wait <= 15000);
    CHECK_INT(step(&device, 20000), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_on_error(&device.dps, 20000, AZURE_DPS_ERR_CONNECT), AZURE_DPS_OK);
    uint32_t now = 20000 + wait_of(&device, 20000);
    CHECK_INT(step(&device, now), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_on_error(&device.dps, now, AZURE_DPS_ERR_CONNECT), AZURE_DPS_OK);
    CHECK_INT(step(&device, now), AZURE_DPS_FINISHED);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_CONNECT);
    /* The lifetime is rounded up: the token must not expire before the run ends. */
    device.config.timeout_ms = 300001;
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK(ends_with(message_of(&device), "\n1700000301"));
    azure_dps_deinit(&device.dps);
    /* Different seeds give different waits. */
    uint32_t waits[2];
    for (uint32_t seed = 0; seed < 2; seed++) {
        certified(&device, TOASTER);
        device.config.jitter_seed = seed;
        begin(&device);
        exchange(&device, 0, "202 Accepted", "", assigning());
        waits[seed] = wait_of(&device, 0);
        azure_dps_deinit(&device.dps);
    }
    CHECK(waits[0] != waits[1]);
}

static void a_request_that_is_too_large_is_not_sent(void)
{
    device device;
    size_t envelope = strlen("{\"registrationId\":\"" TOASTER "\",\"payload\":}");
    const struct {
        uint32_t limit;
        size_t len;
        bool fits;
    } rows[] = {{0, 98304 - envelope, true}, {0, 98304 - envelope + 1, false}, {0, 1000000, false},
                {200, 200 - envelope, true}, {200, 201 - envelope, false},     {UINT32_MAX, 1000000, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(format("%lu of %lu", (unsigned long)rows[i].len, (unsigned long)rows[i].limit));
        certified(&device, TOASTER);
        device.config.max_body = rows[i].limit;
        device.config.payload = exact_str(format("{\"x\":\"%s\"}", repeat("x", rows[i].len - 8)));
        start(&device);
        if (rows[i].fits) {
            CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
        } else {
            uint32_t wait;
            azure_dps_progress progress;
            CHECK_INT(azure_dps_step(&device.dps, 0, &wait), AZURE_DPS_FINISHED);
            azure_dps_error error = error_of(&device);
            CHECK_INT(error.result, AZURE_DPS_ERR_REQUEST_TOO_LARGE);
            CHECK_INT(error.needed, rows[i].len + envelope);
            CHECK_INT(error.fault, AZURE_DPS_FAULT_CALLER);
            CHECK_INT(azure_dps_http_write_request(&device.dps, 0, device.buffer, sizeof device.buffer, NULL),
                      AZURE_DPS_ERR_NOT_DUE);
            CHECK_INT(azure_dps_get_progress(&device.dps, &progress), 1);
            CHECK_INT(progress.what, AZURE_DPS_PROGRESS_FAILED);
            CHECK_INT(progress.result, AZURE_DPS_ERR_REQUEST_TOO_LARGE);
        }
        azure_dps_deinit(&device.dps);
    }
}

static void calls_at_the_wrong_time_are_errors(void)
{
    device device;
    azure_dps_assignment assignment;
    uint8_t signature[32] = {0};
    uint8_t *space;
    size_t len;
    toaster(&device);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    /* Not started. */
    CHECK_INT(step(&device, 0), AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, device.buffer, sizeof device.buffer),
              AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_write_message(&device.dps, device.buffer, sizeof device.buffer, &len),
              AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_on_signature(&device.dps, signature), AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_http_write_request(&device.dps, 0, device.buffer, sizeof device.buffer, &len),
              AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &assignment),
              AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_request_time_left(&device.dps, 0), 0);
    CHECK_INT(azure_dps_on_error(&device.dps, 0, AZURE_DPS_ERR_CONNECT), AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 0), AZURE_DPS_ERR_NOT_STARTED);
    /* Before the signature. */
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK_INT(azure_dps_http_write_request(&device.dps, 0, device.buffer, sizeof device.buffer, &len),
              AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &assignment),
              AZURE_DPS_ERR_NOT_FINISHED);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_NOT_FINISHED);
    sign(&device, 0);
    /* After the signature. */
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, device.buffer, sizeof device.buffer),
              AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_on_signature(&device.dps, signature), AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_http_space(&device.dps, 0, device.buffer, sizeof device.buffer, &space, &len),
              AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_http_received(&device.dps, 0, device.buffer, sizeof device.buffer, 1, NULL),
              AZURE_DPS_ERR_NOT_DUE);
    /* The failed calls changed nothing. */
    exchange(&device, 0, "200 OK", "", assigned());
    CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    CHECK_INT(azure_dps_http_write_request(&device.dps, 0, device.buffer, sizeof device.buffer, &len),
              AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, device.buffer, sizeof device.buffer),
              AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_on_error(&device.dps, 0, AZURE_DPS_ERR_CONNECT), AZURE_DPS_OK);
    CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &assignment),
              AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

/* ---- Signing ---- */

typedef struct chip {
    int32_t result;
    unsigned calls;
    bool second;
    uint8_t fill;
    char message[200];
} chip;

static int32_t chip_sign(void *ctx, const uint8_t *message, size_t len, uint8_t *signature)
{
    chip *chip = (struct chip *)ctx;
    chip->calls++;
    snprintf(chip->message, sizeof chip->message, "%.*s", (int)len, (const char *)message);
    if (chip->result == 0) {
        memset(signature, chip->fill, 32);
    }
    return chip->result;
}

static int32_t chip_sign_second(void *ctx, const uint8_t *message, size_t len, uint8_t *signature)
{
    ((struct chip *)ctx)->second = true;
    return chip_sign(ctx, message, len, signature);
}

static const char *token_of(device *device)
{
    char buffer[512];
    CHECK_INT(azure_dps_mqtt_write_password(&device->dps, buffer, sizeof buffer, NULL), AZURE_DPS_OK);
    return format("%s", buffer);
}

static void a_signer_is_called_with_the_message(void)
{
    device device;
    chip chip = {0, 0, false, 0xff, ""};
    toaster(&device);
    start(&device);
    device.signer.ctx = &chip;
    device.signer.sign = chip_sign;
    sign(&device, 0);
    CHECK_STR(str(chip.message), SCOPE "%2fregistrations%2f" TOASTER "\n1700003600");
    CHECK_INT(chip.calls, 1);
    char *fs = repeat("%2F", 42);
    CHECK(contains(token_of(&device), format("&sig=%s8%%3D&se=", fs)));
    azure_dps_deinit(&device.dps);
    /* The exact size is enough. One byte less is an error that does not change the run. */
    size_t needed = strlen(chip.message), len = 0;
    start(&device);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, exact(needed - 1), needed - 1),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, NULL, 0), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(azure_dps_write_message(&device.dps, exact(needed - 1), needed - 1, &len),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(len, needed);
    CHECK_INT(azure_dps_write_message(&device.dps, exact(needed), needed, &len), AZURE_DPS_OK);
    CHECK_INT(len, needed);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, exact(needed), needed), AZURE_DPS_OK);
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    azure_dps_deinit(&device.dps);
}

static void a_signature_from_elsewhere_makes_the_same_token(void)
{
    device one, other;
    uint8_t signature[32];
    toaster(&one);
    begin(&one);
    toaster(&other);
    start(&other);
    CHECK_INT(step(&other, 0), AZURE_DPS_SIGN);
    azure_dps_str message = exact_str(message_of(&other));
    CHECK_INT(azure_dps_key_sign(other.keys, (const uint8_t *)message.ptr, message.len, signature), 0);
    CHECK_INT(azure_dps_on_signature(&other.dps, signature), AZURE_DPS_OK);
    CHECK_INT(step(&other, 0), AZURE_DPS_SEND);
    CHECK_STR(str(token_of(&other)), token_of(&one));
    azure_dps_deinit(&one.dps);
    azure_dps_deinit(&other.dps);
}

static void a_signer_that_fails_ends_the_run_with_its_number(void)
{
    static const int32_t numbers[] = {-7, 7, INT32_MIN, AZURE_DPS_ERR_UNTRUSTED};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        device device;
        chip chip = {0, 0, false, 0, ""};
        toaster(&device);
        start(&device);
        chip.result = numbers[i];
        device.signer.ctx = &chip;
        device.signer.sign = chip_sign;
        row(format("%ld", (long)numbers[i]));
        CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
        CHECK_INT(azure_dps_sign(&device.dps, &device.signer, device.buffer, sizeof device.buffer),
                  AZURE_DPS_ERR_SIGNER);
        CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, AZURE_DPS_ERR_SIGNER);
        CHECK_INT(error.io_error, numbers[i]);
        CHECK_INT(error.fault, AZURE_DPS_FAULT_CALLER);
        /* The next run has no error. */
        CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
        CHECK_INT(error_of(&device).io_error, 0);
        azure_dps_deinit(&device.dps);
    }
}

static void a_second_key_is_tried_if_the_first_is_refused(void)
{
    device device;
    chip chip = {0, 0, false, 1, ""};
    toaster(&device);
    device.signer.ctx = &chip;
    device.signer.sign = chip_sign;
    device.signer.sign_with_secondary_key = chip_sign_second;
    begin(&device);
    CHECK(!chip.second);
    CHECK_INT(azure_dps_get_key(&device.dps), AZURE_DPS_PRIMARY_KEY);
    exchange(&device, 0, "401 Unauthorized", "", "{\"errorCode\":401002}");
    sign(&device, 0);
    CHECK(chip.second);
    CHECK_INT(azure_dps_get_key(&device.dps), AZURE_DPS_SECONDARY_KEY);
    exchange(&device, 0, "401 Unauthorized", "", "{\"errorCode\":401002}");
    CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
    CHECK_INT(error_of(&device).code, 401002);
    CHECK_INT(chip.calls, 2);
    azure_dps_deinit(&device.dps);

    /* A signer with one key ignores config.first_key. */
    toaster(&device);
    device.config.first_key = AZURE_DPS_SECONDARY_KEY;
    begin(&device);
    CHECK_INT(azure_dps_get_key(&device.dps), AZURE_DPS_PRIMARY_KEY);
    exchange(&device, 0, "401 Unauthorized", "", "{\"errorCode\":401002}");
    CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
    azure_dps_deinit(&device.dps);
}

/* ---- Errors of the network ---- */

static void only_network_errors_are_retried(void)
{
    static const struct {
        azure_dps_result error;
        int32_t step;
        uint8_t fault;
    } rows[] = {
        {AZURE_DPS_ERR_CONNECT, AZURE_DPS_WAIT, AZURE_DPS_FAULT_TRANSPORT},
        {AZURE_DPS_ERR_CLOSED, AZURE_DPS_WAIT, AZURE_DPS_FAULT_TRANSPORT},
        {AZURE_DPS_ERR_STALLED, AZURE_DPS_WAIT, AZURE_DPS_FAULT_TRANSPORT},
        {AZURE_DPS_ERR_STREAM, AZURE_DPS_WAIT, AZURE_DPS_FAULT_TRANSPORT},
        {AZURE_DPS_ERR_UNTRUSTED, AZURE_DPS_FINISHED, AZURE_DPS_FAULT_PEER},
        {AZURE_DPS_ERR_PROXY_REFUSED, AZURE_DPS_FINISHED, AZURE_DPS_FAULT_CALLER},
        {AZURE_DPS_ERR_SIGNER, AZURE_DPS_FINISHED, AZURE_DPS_FAULT_CALLER},
        {AZURE_DPS_ERR_TPM, AZURE_DPS_FINISHED, AZURE_DPS_FAULT_CREDENTIAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_progress progress;
        row(azure_dps_result_name(rows[i].error));
        toaster(&device);
        begin(&device);
        CHECK_INT(azure_dps_on_error(&device.dps, 0, rows[i].error), AZURE_DPS_OK);
        CHECK_INT(azure_dps_get_progress(&device.dps, &progress), 1);
        CHECK_INT(progress.result, rows[i].error);
        if (rows[i].step == AZURE_DPS_WAIT) {
            uint32_t wait = wait_of(&device, 0);
            CHECK(5000 <= wait && wait <= 7500);
            CHECK_INT(progress.what, AZURE_DPS_PROGRESS_RETRYING);
            CHECK_INT(progress.wait_ms, wait);
            CHECK_INT(progress.failures, 1);
            CHECK_INT(step(&device, wait), AZURE_DPS_SEND);
            CHECK_INT(step(&device, 600000), AZURE_DPS_FINISHED);
        } else {
            CHECK_INT(progress.what, AZURE_DPS_PROGRESS_FAILED);
            CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
        }
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, rows[i].error);
        CHECK_INT(error.fault, rows[i].fault);
        CHECK_INT(error.retryable, rows[i].fault == AZURE_DPS_FAULT_TRANSPORT);
        azure_dps_deinit(&device.dps);
    }
    device device;
    toaster(&device);
    begin(&device);
    for (int32_t error = -110; error < 30; error++) {
        bool is_known = error <= AZURE_DPS_ERR_UNTRUSTED && error >= AZURE_DPS_ERR_STREAM;
        if (!is_known && error != AZURE_DPS_ERR_SIGNER && error != AZURE_DPS_ERR_TPM) {
            row(format("%ld", (long)error));
            CHECK_INT(azure_dps_on_error(&device.dps, 0, error), AZURE_DPS_ERR_ARGUMENT);
        }
    }
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    azure_dps_deinit(&device.dps);
}

/* ---- The clock ---- */

static void a_clock_of_32_bits_may_wrap(void)
{
    static const uint32_t starts[] = {0, 1000, 0x7fffff00u, 0xfffffff0u, 0xfffff000u};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        device device;
        uint32_t now = starts[i];
        row(format("%lu", (unsigned long)now));
        certified(&device, TOASTER);
        CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
        CHECK_INT(azure_dps_start(&device.dps, now, 0), AZURE_DPS_OK);
        request(&device, now);
        CHECK_INT(azure_dps_request_time_left(&device.dps, now), 60000);
        now += 10000;
        CHECK_INT(azure_dps_request_time_left(&device.dps, now), 50000);
        CHECK_INT(answer(&device, now, http("202 Accepted", "Retry-After: 7\r\n", assigning()), 1000, NULL),
                  1);
        CHECK_INT(wait_of(&device, now), 7000);
        CHECK_INT(wait_of(&device, now + 5000), 2000);
        CHECK_INT(step(&device, now + 7000), AZURE_DPS_SEND);
        CHECK_INT(step(&device, starts[i] + 599999), AZURE_DPS_SEND);
        CHECK_INT(step(&device, starts[i] + 600000), AZURE_DPS_FINISHED);
        CHECK_INT(result_of(&device), AZURE_DPS_ERR_STILL_ASSIGNING);
        azure_dps_deinit(&device.dps);
    }
}

static void a_clock_that_steps_back_a_little_stands_still(void)
{
    static const uint32_t starts[] = {0, 5000000, 0xffffffffu};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        device device;
        uint32_t now = starts[i];
        row(format("%lu", (unsigned long)now));
        certified(&device, TOASTER);
        CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
        CHECK_INT(azure_dps_start(&device.dps, now, 0), AZURE_DPS_OK);
        exchange(&device, now, "202 Accepted", "Retry-After: 7\r\n", assigning());
        CHECK_INT(wait_of(&device, now + 1000), 6000);
        CHECK_INT(wait_of(&device, now), 6000);
        CHECK_INT(wait_of(&device, now + 1000 - 60000), 6000);
        CHECK_INT(wait_of(&device, now + 1000), 6000);
        CHECK_INT(wait_of(&device, now + 2000), 5000);
        /* A clock that goes back by more than a minute counts as almost 49 days forward. */
        CHECK_INT(step(&device, now + 2000 - 61000), AZURE_DPS_FINISHED);
        azure_dps_deinit(&device.dps);
    }
}

static void weeks_may_pass_between_two_calls(void)
{
    device device;
    certified(&device, TOASTER);
    device.config.timeout_ms = 30u * 24 * 3600 * 1000;
    begin(&device);
    /* 25 days: more than half the range of 32 bits. */
    CHECK_INT(step(&device, 25u * 24 * 3600 * 1000), AZURE_DPS_SEND);
    exchange(&device, 25u * 24 * 3600 * 1000, "202 Accepted", "", assigning());
    CHECK_INT(step(&device, 29u * 24 * 3600 * 1000), AZURE_DPS_SEND);
    CHECK_INT(step(&device, 30u * 24 * 3600 * 1000), AZURE_DPS_FINISHED);
    /* A new run starts the count again. */
    CHECK_INT(azure_dps_start(&device.dps, 30u * 24 * 3600 * 1000, 0), AZURE_DPS_OK);
    CHECK_INT(step(&device, 49u * 24 * 3600 * 1000), AZURE_DPS_SEND);
    azure_dps_deinit(&device.dps);
}

/* ---- Memory ---- */

static void a_client_can_be_used_again_and_again(void)
{
    device device;
    azure_dps_assignment assignment;
    toaster(&device);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(run_to(&device, "200 OK", assigned(), &assignment), AZURE_DPS_OK);
        /* The same client in another run. */
        CHECK_INT(azure_dps_start(&device.dps, 5, UNIX_TIME), AZURE_DPS_OK);
        sign(&device, 5);
        exchange(&device, 5, "403 Forbidden", "", "");
        CHECK_INT(result_of(&device), AZURE_DPS_ERR_REFUSED);
        azure_dps_deinit(&device.dps);
        CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_ERR_HANDLE);
        azure_dps_deinit(&device.dps);
    }
    azure_dps_deinit(NULL);
    memset(&device.dps, 0, sizeof device.dps);
    azure_dps_deinit(&device.dps);
    memset(&device.dps, 0x5a, sizeof device.dps);
    azure_dps_deinit(&device.dps);
}

static void the_configuration_may_be_freed_after_init(void)
{
    device device;
    toaster(&device);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    memset(&device.config, 0x5a, sizeof device.config);
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    sign(&device, 0);
    exchange(&device, 0, "200 OK", "", assigned());
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

static void deinit_wipes_the_signature(void)
{
    device device;
    chip chip = {0, 0, false, 0xa7, ""};
    uint8_t signature[32];
    memset(signature, 0xa7, sizeof signature);
    toaster(&device);
    device.signer.ctx = &chip;
    device.signer.sign = chip_sign;
    begin(&device);
    CHECK(holds(&device.dps, sizeof device.dps, signature, 32));
    azure_dps_deinit(&device.dps);
    CHECK(!holds(&device.dps, sizeof device.dps, signature, 8));
    /* The end of a run also wipes the signature. */
    begin(&device);
    exchange(&device, 0, "200 OK", "", assigned());
    CHECK(!holds(&device.dps, sizeof device.dps, signature, 8));
    azure_dps_deinit(&device.dps);
}

static void two_devices_run_at_once(void)
{
    device toast, pump;
    azure_dps_assignment assignment;
    const char *pumps = replace(replace(assigned(), TOASTERS_HUB, HEAT_PUMPS_HUB), TOASTER, HEAT_PUMP);
    pumps = replace(pumps, TOASTER, HEAT_PUMP);
    toaster(&toast);
    toaster(&pump);
    pump.config.registration_id = exact_str(HEAT_PUMP);
    CHECK_INT(azure_dps_key_from_base64(pump.keys, str(HEAT_PUMP_KEY)), AZURE_DPS_OK);
    start(&toast);
    start(&pump);
    sign(&pump, 0);
    sign(&toast, 0);
    CHECK(contains(request(&toast, 0), "/registrations/" TOASTER "/register?"));
    CHECK(contains(request(&pump, 0), "/registrations/" HEAT_PUMP "/register?"));
    const char *first = http("202 Accepted", "Retry-After: 3\r\n", assigning());
    CHECK_INT(answer(&pump, 0, first, 7, NULL), 1);
    CHECK_INT(answer(&toast, 0, first, 1, NULL), 1);
    CHECK_INT(wait_of(&toast, 1000), 2000);
    CHECK_INT(wait_of(&pump, 2000), 1000);
    request(&pump, 3000);
    request(&toast, 3000);
    CHECK_INT(answer(&toast, 3000, http("200 OK", "", assigned()), 100, NULL), 1);
    CHECK_INT(answer(&pump, 3000, http_chunked("200 OK", "", pumps, 30), 10, NULL), 1);
    CHECK_INT(azure_dps_get_assignment(&toast.dps, toast.buffer, sizeof toast.buffer, &assignment),
              AZURE_DPS_OK);
    CHECK_STR(assignment.assigned_hub, TOASTERS_HUB);
    CHECK_STR(assignment.device_id, TOASTER);
    CHECK_INT(azure_dps_get_assignment(&pump.dps, pump.buffer, sizeof pump.buffer, &assignment),
              AZURE_DPS_OK);
    CHECK_STR(assignment.assigned_hub, HEAT_PUMPS_HUB);
    CHECK_STR(assignment.device_id, HEAT_PUMP);
    azure_dps_deinit(&toast.dps);
    CHECK_INT(result_of(&pump), AZURE_DPS_OK);
    azure_dps_deinit(&pump.dps);
}

static void texts_are_copied_with_a_zero_byte(void)
{
    size_t len = 9;
    char *three = (char *)exact(3), *four = (char *)exact(4);
    CHECK_INT(azure_dps_str_copy(exact_str("hub"), four, 4, &len), AZURE_DPS_OK);
    CHECK_TEXT(four, len, "hub");
    CHECK_INT(four[3], 0);
    CHECK_INT(azure_dps_str_copy(exact_str("hub"), three, 3, &len), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(len, 4);
    CHECK_INT(azure_dps_str_copy(exact_str("hub"), NULL, 0, NULL), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(azure_dps_str_copy(str(NULL), three, 1, &len), AZURE_DPS_OK);
    CHECK_INT(len, 0);
    CHECK_INT(three[0], 0);
    azure_dps_str no_text = {NULL, 1};
    CHECK_INT(azure_dps_str_copy(no_text, four, 4, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_str_copy(exact_str("hub"), NULL, 4, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_STR(azure_dps_str_of("hub"), "hub");
    CHECK_INT(azure_dps_str_of(NULL).len, 0);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(identifiers_follow_the_services_grammar);
    RUN(payloads_are_one_json_object);
    RUN(endpoints);
    RUN(another_version_of_the_header_is_refused);
    RUN(the_error_names_the_wrong_member_of_the_configuration);
    RUN(the_configuration_is_used);
    RUN(a_request_that_is_too_large_is_not_sent);
    RUN(calls_at_the_wrong_time_are_errors);
    RUN(a_signer_is_called_with_the_message);
    RUN(a_signature_from_elsewhere_makes_the_same_token);
    RUN(a_signer_that_fails_ends_the_run_with_its_number);
    RUN(a_second_key_is_tried_if_the_first_is_refused);
    RUN(only_network_errors_are_retried);
    RUN(a_clock_of_32_bits_may_wrap);
    RUN(a_clock_that_steps_back_a_little_stands_still);
    RUN(weeks_may_pass_between_two_calls);
    RUN(a_client_can_be_used_again_and_again);
    RUN(the_configuration_may_be_freed_after_init);
    RUN(deinit_wipes_the_signature);
    RUN(two_devices_run_at_once);
    RUN(texts_are_copied_with_a_zero_byte);
    return finish();
}
