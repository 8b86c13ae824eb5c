/* Errors: the name of every result, the members of every outcome, the text, and the service's message. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static void every_result_has_its_name(void)
{
#define NAME(result)    \
    {                   \
        result, #result \
    }
    static const struct {
        azure_dps_result result;
        const char *name;
    } rows[] = {
        NAME(AZURE_DPS_OK),
        NAME(AZURE_DPS_ERR_ARGUMENT),
        NAME(AZURE_DPS_ERR_HANDLE),
        NAME(AZURE_DPS_ERR_ABI),
        NAME(AZURE_DPS_ERR_NOT_STARTED),
        NAME(AZURE_DPS_ERR_NOT_DUE),
        NAME(AZURE_DPS_ERR_NOT_FINISHED),
        NAME(AZURE_DPS_ERR_WRONG_BUFFER),
        NAME(AZURE_DPS_ERR_BUFFER_TOO_SMALL),
        NAME(AZURE_DPS_ERR_UNSUPPORTED),
        NAME(AZURE_DPS_ERR_INVALID_ID_SCOPE),
        NAME(AZURE_DPS_ERR_INVALID_REGISTRATION_ID),
        NAME(AZURE_DPS_ERR_INVALID_KEY),
        NAME(AZURE_DPS_ERR_INVALID_PAYLOAD),
        NAME(AZURE_DPS_ERR_INVALID_ENDPOINT),
        NAME(AZURE_DPS_ERR_INVALID_CSR),
        NAME(AZURE_DPS_ERR_INVALID_HUB),
        NAME(AZURE_DPS_ERR_REQUEST_TOO_LARGE),
        NAME(AZURE_DPS_ERR_SIGNER),
        NAME(AZURE_DPS_ERR_TPM),
        NAME(AZURE_DPS_ERR_RECORD_ABSENT),
        NAME(AZURE_DPS_ERR_RECORD_TORN),
        NAME(AZURE_DPS_ERR_RECORD_LAYOUT),
        NAME(AZURE_DPS_ERR_RECORD_FOREIGN),
        NAME(AZURE_DPS_ERR_RECORD_IMPOSSIBLE),
        NAME(AZURE_DPS_ERR_NOT_FOUND),
        NAME(AZURE_DPS_ERR_REFUSED),
        NAME(AZURE_DPS_ERR_FAILED),
        NAME(AZURE_DPS_ERR_DISABLED),
        NAME(AZURE_DPS_ERR_UNASSIGNED),
        NAME(AZURE_DPS_ERR_STILL_ASSIGNING),
        NAME(AZURE_DPS_ERR_OPERATION_LOST),
        NAME(AZURE_DPS_ERR_TIMED_OUT),
        NAME(AZURE_DPS_ERR_MALFORMED),
        NAME(AZURE_DPS_ERR_UNTRUSTED),
        NAME(AZURE_DPS_ERR_PROXY_REFUSED),
        NAME(AZURE_DPS_ERR_CONNECT),
        NAME(AZURE_DPS_ERR_CLOSED),
        NAME(AZURE_DPS_ERR_STALLED),
        NAME(AZURE_DPS_ERR_STREAM),
        NAME(AZURE_DPS_ERR_OTHER),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_STR(str(azure_dps_result_name(rows[i].result)), rows[i].name);
    }
    /* No other number has one of these names. */
    for (azure_dps_result result = -300; result < 300; result++) {
        bool is_known = false;
        const char *name = azure_dps_result_name(result);
        row(format("%ld", (long)result));
        CHECK(name != NULL && name[0] != '\0');
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            is_known |= rows[i].result == result;
            CHECK(rows[i].result == result || strcmp(name, rows[i].name) != 0);
        }
        CHECK(is_known || strncmp(name, "AZURE_DPS_ERR_", 14) != 0);
    }
    CHECK(azure_dps_result_name(INT32_MIN) != NULL && azure_dps_result_name(INT32_MAX) != NULL);
}

static const char *words_of(const device *device)
{
    char text[400];
    size_t len = 0;
    CHECK_INT(azure_dps_write_error(&device->dps, text, sizeof text, &len), AZURE_DPS_OK);
    CHECK_INT(text[len], 0);
    /* The exact size is enough. One byte less is an error. */
    char *enough = (char *)exact(len + 1);
    size_t again = 0;
    CHECK_INT(azure_dps_write_error(&device->dps, enough, len, &again), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(again, len + 1);
    CHECK_INT(azure_dps_write_error(&device->dps, NULL, 0, &again), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(again, len + 1);
    CHECK_INT(azure_dps_write_error(&device->dps, enough, len + 1, NULL), AZURE_DPS_OK);
    CHECK_STR(str(enough), text);
    return format("%s", text);
}

static const char *service_message_of(device *device)
{
    char text[400];
    size_t len = 0;
    const void *body = device->buffer;
    size_t size = sizeof device->buffer;
    CHECK_INT(azure_dps_write_service_message(&device->dps, body, size, text, sizeof text, &len),
              AZURE_DPS_OK);
    CHECK_INT(text[len], 0);
    size_t again = 0;
    char *enough = (char *)exact(len + 1);
    CHECK_INT(azure_dps_write_service_message(&device->dps, body, size, enough, len, &again),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(again, len + 1);
    CHECK_INT(azure_dps_write_service_message(&device->dps, body, size, enough, len + 1, NULL), AZURE_DPS_OK);
    return format("%s", text);
}

/* The outcome of a run with this first answer. The Rust tests have the same rows. */
static void answers_end_runs_with_their_error(void)
{
    static const struct {
        const char *status, *body;
        azure_dps_result result;
        uint8_t fault;
        uint16_t http_status;
        uint32_t code;
        const char *tracking_id, *words, *message;
    } rows[] = {
        {"401 Unauthorized",
         "{\"errorCode\":401000,\"trackingId\":\"" TRACKING_ID "\",\"message\":\"Unauthorized\"}",
         AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_CREDENTIAL, 401, 401000, TRACKING_ID,
         "the service refused the request: 401000, the credential was refused: check the key or certificate, "
         "the ID scope, "
         "the registration ID and the clock (tracking ID " TRACKING_ID ")",
         "Unauthorized"},
        {"302 Found", "", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_PEER, 302, 0, "",
         "the service refused the request: HTTP status 302", ""},
        {"200 OK",
         "{\"status\":\"failed\",\"registrationState\":{\"errorCode\":400208,\"errorMessage\":\"no hub\"}}",
         AZURE_DPS_ERR_FAILED, AZURE_DPS_FAULT_REFUSED, 200, 400208, "",
         "the registration failed: 400208, the custom allocation webhook named no IoT hub", "no hub"},
        {"200 OK", "{\"status\":\"failed\",\"registrationState\":{\"errorCode\":401002}}",
         AZURE_DPS_ERR_FAILED, AZURE_DPS_FAULT_REFUSED, 200, 401002, "",
         "the registration failed: 401002, access was refused: check the service's access to the hub", ""},
        {"200 OK", "{\"status\":\"disabled\"}", AZURE_DPS_ERR_DISABLED, AZURE_DPS_FAULT_REFUSED, 0, 0, "",
         "the enrollment is disabled: the operator must enable it", ""},
        {"200 OK", "{\"a\":1,}", AZURE_DPS_ERR_MALFORMED, AZURE_DPS_FAULT_PEER, 0, 0, "",
         "the service's answer is invalid: JSON syntax error at position 7", ""},
        {"200 OK", "7", AZURE_DPS_ERR_MALFORMED, AZURE_DPS_FAULT_PEER, 0, 0, "",
         "the service's answer is invalid: JSON is not an object at position 0", ""},
        {"200 OK", "{\"status\":\"assigned\",\"registrationState\":{\"deviceId\":\"d\"}}",
         AZURE_DPS_ERR_MALFORMED, AZURE_DPS_FAULT_PEER, 0, 0, "",
         "the service's answer is invalid: `assignedHub` is missing", ""},
        {"200 OK", "{\"status\":\"assigned\",\"status\":\"x\"}", AZURE_DPS_ERR_MALFORMED,
         AZURE_DPS_FAULT_PEER, 0, 0, "", "the service's answer is invalid: `status` occurs twice", ""},
        {"400 Bad", "{\"errorCode\":400012,\"trackingId\":\"\",\"message\":\"Deserialization error.\"}",
         AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_CALLER, 400, 400012, "",
         "the service refused the request: 400012, the service cannot read the request: check the payload",
         "Deserialization error."},
        {"404 Not Found", "{\"errorCode\":404201,\"message\":\"a\\u00e4\\\"b\"}", AZURE_DPS_ERR_REFUSED,
         AZURE_DPS_FAULT_REFUSED, 404, 404201, "", NULL, "a\xc3\xa4\"b"},
        {"413 Too Large", "<html>Request Entity Too Large</html>", AZURE_DPS_ERR_REFUSED,
         AZURE_DPS_FAULT_CALLER, 413, 0, "",
         "the service refused the request: HTTP status 413, the request is too large: send a smaller payload",
         ""},
        {"407 Proxy", "", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_PEER, 407, 0, "", NULL, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].body);
        toaster(&device);
        CHECK_INT(run_to(&device, rows[i].status, rows[i].body, &assignment), rows[i].result);
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, rows[i].result);
        CHECK_INT(error.fault, rows[i].fault);
        CHECK_INT(error.http_status, rows[i].http_status);
        CHECK_INT(error.code, rows[i].code);
        CHECK_STR(str(error.tracking_id), rows[i].tracking_id);
        CHECK_INT(error.retryable, 0);
        CHECK_INT(error.io_error, 0);
        if (rows[i].words != NULL) {
            CHECK_STR(str(words_of(&device)), rows[i].words);
        }
        CHECK_STR(str(service_message_of(&device)), rows[i].message);
        azure_dps_deinit(&device.dps);
    }
}

static void the_error_has_the_position_of_malformed_json(void)
{
    static const struct {
        const char *body;
        uint32_t position;
    } rows[] = {{"{\"a\":1,}", 7}, {"7", 0}, {"{}{}", 2}, {"{\"a\":\"\x01\"}", 6}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].body);
        certified(&device, TOASTER);
        CHECK_INT(run_to(&device, "200 OK", rows[i].body, &assignment), AZURE_DPS_ERR_MALFORMED);
        CHECK_INT(error_of(&device).position, rows[i].position);
        azure_dps_deinit(&device.dps);
    }
}

static void an_operation_that_is_lost_twice(void)
{
    device device;
    uint32_t now = 0;
    toaster(&device);
    begin(&device);
    for (int i = 0; i < 2; i++) {
        exchange(&device, now, "202 Accepted", "Retry-After: 1\r\n", assigning());
        now += 1000;
        exchange(&device, now, "404 Not Found", "",
                 "{\"errorCode\":404201,\"trackingId\":\"" TRACKING_ID "\"}");
        if (i == 0) {
            now += wait_of(&device, now);
        }
    }
    CHECK_INT(step(&device, now), AZURE_DPS_FINISHED);
    azure_dps_error error = error_of(&device);
    CHECK_INT(error.result, AZURE_DPS_ERR_OPERATION_LOST);
    CHECK_INT(error.http_status, 404);
    CHECK_INT(error.code, 404201);
    CHECK_INT(error.fault, AZURE_DPS_FAULT_BUSY);
    CHECK_INT(error.retryable, 1);
    CHECK_STR(str(error.tracking_id), TRACKING_ID);
    CHECK_STR(str(words_of(&device)),
              "the service lost the operation of this registration (tracking ID " TRACKING_ID
              ")");
    azure_dps_deinit(&device.dps);
}

static void errors_without_an_answer_have_a_text(void)
{
    static const struct {
        azure_dps_result error;
        const char *words;
    } rows[] = {
        {AZURE_DPS_ERR_CONNECT, "cannot connect to the service"},
        {AZURE_DPS_ERR_CLOSED, "the connection was closed before the answer was complete"},
        {AZURE_DPS_ERR_STALLED, "the service did not answer in time"},
        {AZURE_DPS_ERR_STREAM, "the connection to the service failed"},
        {AZURE_DPS_ERR_UNTRUSTED,
         "the server did not prove that it is the service: check the roots, the host name and the clock"},
        {AZURE_DPS_ERR_PROXY_REFUSED,
         "the proxy refused the connection to the service: check its user, password and rules"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        row(rows[i].words);
        toaster(&device);
        begin(&device);
        CHECK_INT(azure_dps_on_error(&device.dps, 0, rows[i].error), AZURE_DPS_OK);
        if (step(&device, 0) == AZURE_DPS_WAIT) {
            CHECK_INT(step(&device, 600000), AZURE_DPS_FINISHED);
        }
        CHECK_INT(error_of(&device).result, rows[i].error);
        CHECK_STR(str(words_of(&device)), rows[i].words);
        azure_dps_deinit(&device.dps);
    }
    device device;
    toaster(&device);
    start(&device);
    CHECK_INT(step(&device, 600000), AZURE_DPS_FINISHED);
    CHECK_INT(error_of(&device).result, AZURE_DPS_ERR_TIMED_OUT);
    CHECK_STR(str(words_of(&device)), "the time-out of this run passed before the service answered");
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    sign(&device, 0);
    exchange(&device, 0, "202 Accepted", "", assigning());
    CHECK_INT(step(&device, 600000), AZURE_DPS_FINISHED);
    CHECK_INT(error_of(&device).result, AZURE_DPS_ERR_STILL_ASSIGNING);
    CHECK_INT(error_of(&device).fault, AZURE_DPS_FAULT_BUSY);
    CHECK_STR(str(words_of(&device)),
              "the time-out of this run passed while the service was still assigning");
    azure_dps_deinit(&device.dps);
}

/* The text has the reason why azure_dps_init() failed. */
static void a_failed_init_has_a_text(void)
{
    device device;
    char text[9];
    uint32_t wait;
    certified(&device, "device 1");
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
    CHECK_STR(
        str(words_of(&device)),
        "the registration ID has a character at position 6 that is not allowed: use letters, digits, - . _ :");
    /* The failed client is not usable. */
    CHECK_INT(azure_dps_step(&device.dps, 0, &wait), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_mqtt_write_client_id(&device.dps, text, sizeof text, NULL), AZURE_DPS_ERR_HANDLE);
    azure_dps_deinit(&device.dps);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_HANDLE);
    certified(&device, TOASTER);
    device.config.payload = exact_str("[1]");
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_ERR_INVALID_PAYLOAD);
    CHECK_STR(str(words_of(&device)),
              "the payload is not a JSON object: JSON is not an object at position 0");
    azure_dps_deinit(&device.dps);
}

static void a_run_has_no_outcome_until_it_ends(void)
{
    device device;
    toaster(&device);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(error_of(&device).result, AZURE_DPS_ERR_NOT_STARTED);
    CHECK_STR(str(words_of(&device)), "no provisioning run was started: call start() first");
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK_INT(error_of(&device).result, AZURE_DPS_ERR_NOT_FINISHED);
    sign(&device, 0);
    exchange(&device, 0, "200 OK", "", assigned());
    azure_dps_error error = error_of(&device);
    CHECK(error.result == 0 && error.code == 0 && error.needed == 0 && error.position == 0 &&
          error.io_error == 0 && error.http_status == 0 && error.fault == 0 && error.retryable == 0 &&
          error.tracking_id[0] == '\0');
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(every_result_has_its_name);
    RUN(answers_end_runs_with_their_error);
    RUN(the_error_has_the_position_of_malformed_json);
    RUN(an_operation_that_is_lost_twice);
    RUN(errors_without_an_answer_have_a_text);
    RUN(a_failed_init_has_a_text);
    RUN(a_run_has_no_outcome_until_it_ends);
    return finish();
}
