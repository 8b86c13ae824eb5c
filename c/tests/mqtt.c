/* MQTT: the tutorial from CONNECT to hub, other topics, rejections, CONNACK, exact sizes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define RESPONSE "$dps/registrations/res/"

/* Returns the password of a session, zero-terminated. */
static const char *password(device *device)
{
    char buffer[512];
    size_t len = 0;
    CHECK_INT(azure_dps_mqtt_write_password(&device->dps, buffer, sizeof buffer, &len), AZURE_DPS_OK);
    CHECK_INT(buffer[len], 0);
    return format("%s", buffer);
}

static azure_dps_result no_password(device *device)
{
    char buffer[512];
    return azure_dps_mqtt_write_password(&device->dps, buffer, sizeof buffer, NULL);
}

static azure_dps_result no_publish(device *device)
{
    azure_dps_str topic;
    azure_dps_bytes body;
    return azure_dps_mqtt_write_publish(&device->dps, 0, device->buffer, sizeof device->buffer, &topic, &body,
                                        NULL);
}

static void registering(device *device)
{
    begin(device);
    publish(device, 0, NULL);
}

static const char *hub_of(device *device)
{
    azure_dps_assignment assignment;
    if (azure_dps_get_assignment(&device->dps, device->buffer, device->len, &assignment) != AZURE_DPS_OK) {
        return "none";
    }
    return format("%.*s", (int)assignment.assigned_hub.len, assignment.assigned_hub.ptr);
}

static void the_tutorial_from_connect_to_hub(void)
{
    device device;
    char text[256];
    size_t len = 0;
    const char *body = NULL;
    toaster(&device);
    begin(&device);
    CHECK_INT(azure_dps_mqtt_write_client_id(&device.dps, text, sizeof text, &len), AZURE_DPS_OK);
    CHECK_TEXT(text, len, TOASTER);
    CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, text, sizeof text, &len), AZURE_DPS_OK);
    CHECK_TEXT(text, len,
               SCOPE "/registrations/" TOASTER "/api-version=2021-06-01&ClientVersion=azure-dps%2F" VERSION);
    const char *token = password(&device);
    CHECK(strncmp(token, "SharedAccessSignature sr=" SCOPE "%2fregistrations%2f" TOASTER "&sig=", 88) == 0);
    CHECK(ends_with(token, "&se=1700003600&skn=registration"));
    CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 0), AZURE_DPS_OK);

    CHECK_STR(str(publish(&device, 0, &body)), "$dps/registrations/PUT/iotdps-register/?$rid=1");
    CHECK_STR(str(body), "{\"registrationId\":\"" TOASTER "\",\"payload\":" PAYLOAD "}");
    CHECK_INT(message(&device, 0, RESPONSE "202/?$rid=1&retry-after=3", assigning()), 1);
    CHECK_INT(wait_of(&device, 0), 3000);

    CHECK_STR(str(publish(&device, 3000, &body)),
              "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=" OPERATION);
    CHECK_STR(str(body), "");
    CHECK_INT(message(&device, 3000, RESPONSE "200/?$rid=2", assigned()), 1);
    CHECK_INT(step(&device, 3000), AZURE_DPS_FINISHED);
    CHECK_STR(str(hub_of(&device)), TOASTERS_HUB);
    azure_dps_deinit(&device.dps);
}

static void an_answer_to_an_earlier_run_is_ignored(void)
{
    device device;
    toaster(&device);
    registering(&device);
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    sign(&device, 0);
    CHECK_STR(str(publish(&device, 0, NULL)), "$dps/registrations/PUT/iotdps-register/?$rid=2");
    CHECK_INT(message(&device, 0, RESPONSE "401/?$rid=1", "{\"errorCode\":401000}"), 0);
    CHECK_INT(message(&device, 0, RESPONSE "200/?$rid=2", assigned()), 1);
    CHECK_STR(str(hub_of(&device)), TOASTERS_HUB);
    azure_dps_deinit(&device.dps);
}

static void parameters_come_in_any_order(void)
{
    static const struct {
        const char *parameters;
        uint32_t shortest, longest;
    } rows[] = {
        {"$rid=1&retry-after=7", 7000, 7000},
        {"retry-after=7&$rid=1", 7000, 7000},
        {"new=thing&retry-after=7&$rid=1&another", 7000, 7000},
        {"$rid=1&retry-after=0", 1000, 1000},
        {"$rid=1&retry-after=99999999999", 300000, 300000},
        /* Without a number, retry-after is ignored. */
        {"$rid=1", 3000, 4500},
        {"$rid=1&retry-after=", 3000, 4500},
        {"$rid=1&retry-after=soon", 3000, 4500},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        toaster(&device);
        registering(&device);
        row(rows[i].parameters);
        CHECK_INT(message(&device, 0, format(RESPONSE "202/?%s", rows[i].parameters), assigning()), 1);
        uint32_t wait = wait_of(&device, 0);
        CHECK(rows[i].shortest <= wait && wait <= rows[i].longest);
        azure_dps_deinit(&device.dps);
    }
}

static void other_messages_are_ignored(void)
{
    static const char *const topics[] = {
        "",
        "devices/toaster/messages/devicebound/",
        "$dps/registrations/res",
        "$dps/registrations/res/",
        "$dps/registrations/res/200",
        "$dps/registrations/res/200/?",
        "$dps/registrations/res/200/?$rid=",
        "$dps/registrations/res/200/?$rid=2",
        "$dps/registrations/res/200/?$rid=01x",
        "$dps/registrations/res/200/?rid=1",
        "$DPS/registrations/res/200/?$rid=1",
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
    };
    device device;
    toaster(&device);
    registering(&device);
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        azure_dps_assignment assignment;
        row(topics[i]);
        CHECK_INT(message(&device, 0, topics[i], assigned()), 0);
        CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, device.len, &assignment),
                  AZURE_DPS_ERR_NOT_FINISHED);
    }
    /* The request is repeated. The answer to the first one is late. */
    CHECK_INT(azure_dps_on_error(&device.dps, 0, AZURE_DPS_ERR_STALLED), AZURE_DPS_OK);
    CHECK_INT(message(&device, 0, RESPONSE "200/?$rid=1", assigned()), 0);
    CHECK(ends_with(publish(&device, 60000, NULL), "$rid=2"));
    CHECK_INT(message(&device, 60000, RESPONSE "200/?$rid=1", assigned()), 0);
    CHECK_INT(message(&device, 60000, RESPONSE "200/?$rid=2", assigned()), 1);
    CHECK_INT(step(&device, 60000), AZURE_DPS_FINISHED);
    /* No request waits for an answer. */
    CHECK_INT(message(&device, 60000, RESPONSE "401/?$rid=2", ""), 0);
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

static void refusals_equal_those_of_http(void)
{
    static const struct {
        const char *status, *body;
        azure_dps_result result;
        uint8_t fault;
        uint32_t code;
    } rows[] = {
        {"401", "{\"errorCode\":401000,\"message\":\"Unauthorized\"}", AZURE_DPS_ERR_REFUSED,
         AZURE_DPS_FAULT_CREDENTIAL, 401000},
        {"401", "{\"errorCode\":401002}", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_CREDENTIAL, 401002},
        {"404", "{\"errorCode\":404201}", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_REFUSED, 404201},
        {"403", "", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_CREDENTIAL, 0},
        {"413", "", AZURE_DPS_ERR_REFUSED, AZURE_DPS_FAULT_CALLER, 0},
        {"200", "{\"status\":\"failed\",\"registrationState\":{\"errorCode\":400207}}", AZURE_DPS_ERR_FAILED,
         AZURE_DPS_FAULT_REFUSED, 400207},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device over_mqtt, over_http;
        azure_dps_assignment assignment;
        toaster(&over_mqtt);
        registering(&over_mqtt);
        toaster(&over_http);
        row(rows[i].body);
        CHECK_INT(message(&over_mqtt, 0, format(RESPONSE "%s/?$rid=1", rows[i].status), rows[i].body), 1);
        CHECK_INT(run_to(&over_http, rows[i].status, rows[i].body, &assignment), rows[i].result);
        azure_dps_error error = error_of(&over_mqtt), other = error_of(&over_http);
        CHECK_INT(error.result, rows[i].result);
        CHECK_INT(error.fault, rows[i].fault);
        CHECK_INT(error.code, rows[i].code);
        CHECK_INT(error.http_status, atoi(rows[i].status));
        CHECK(error.result == other.result && error.fault == other.fault && error.code == other.code &&
              error.http_status == other.http_status && error.retryable == other.retryable);
        azure_dps_deinit(&over_mqtt.dps);
        azure_dps_deinit(&over_http.dps);
    }
    static const char *const busy[] = {"429", "500", "503"};
    for (size_t i = 0; i < sizeof busy / sizeof *busy; i++) {
        device device;
        toaster(&device);
        registering(&device);
        row(busy[i]);
        CHECK_INT(message(&device, 0, format(RESPONSE "%s/?$rid=1&retry-after=29", busy[i]), ""), 1);
        uint32_t wait = wait_of(&device, 0);
        CHECK(29000 <= wait && wait <= 58000);
        azure_dps_deinit(&device.dps);
    }
}

static void a_status_that_is_not_a_number_is_malformed(void)
{
    static const char *const statuses[] = {"", "ok", "2OO", "-200", "65536", "99999999999"};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        device device;
        toaster(&device);
        registering(&device);
        row(statuses[i]);
        CHECK_INT(message(&device, 0, format(RESPONSE "%s/?$rid=1&200", statuses[i]), assigned()), 1);
        CHECK_INT(result_of(&device), AZURE_DPS_ERR_MALFORMED);
        azure_dps_deinit(&device.dps);
    }
}

static void connack(void)
{
    static const struct {
        uint8_t code;
        uint16_t http_status;
        uint8_t fault;
    } rows[] = {
        {1, 400, AZURE_DPS_FAULT_REFUSED},    {2, 400, AZURE_DPS_FAULT_REFUSED},
        {3, 503, AZURE_DPS_FAULT_BUSY},       {4, 401, AZURE_DPS_FAULT_CREDENTIAL},
        {5, 401, AZURE_DPS_FAULT_CREDENTIAL}, {6, 400, AZURE_DPS_FAULT_REFUSED},
        {255, 400, AZURE_DPS_FAULT_REFUSED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        toaster(&device);
        begin(&device);
        row(format("%d", rows[i].code));
        CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, rows[i].code), AZURE_DPS_OK);
        if (rows[i].fault == AZURE_DPS_FAULT_BUSY) {
            CHECK(wait_of(&device, 0) > 0);
        } else {
            azure_dps_error error = error_of(&device);
            CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
            CHECK_INT(error.result, AZURE_DPS_ERR_REFUSED);
            CHECK_INT(error.http_status, rows[i].http_status);
            CHECK_INT(error.fault, rows[i].fault);
        }
        azure_dps_deinit(&device.dps);
    }
}

static void passwords(void)
{
    device device;
    char buffer[512];
    size_t len = 7;
    certified(&device, "a:b");
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(no_password(&device), AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_OK);
    CHECK_STR(str(password(&device)), "");
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, NULL, 0, &len), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(len, 1);
    /* The client ID and the user name are not encoded. The resource of the token is encoded. */
    CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, buffer, sizeof buffer, &len), AZURE_DPS_OK);
    CHECK(strncmp(buffer, SCOPE "/registrations/a:b/api", 33) == 0);
    azure_dps_deinit(&device.dps);

    toaster(&device);
    device.config.registration_id = exact_str("a:b");
    start(&device);
    CHECK_INT(no_password(&device), AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(no_publish(&device), AZURE_DPS_ERR_NOT_DUE);
    sign(&device, 0);
    const char *token = password(&device);
    CHECK(contains(token, "registrations%2fa%3Ab&sig="));
    CHECK(contains(token, "&se=1700003600&"));
    /* A later session uses the same token without a new signature. */
    CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 3), AZURE_DPS_OK);
    uint32_t now = wait_of(&device, 0);
    CHECK_INT(step(&device, now), AZURE_DPS_SEND);
    CHECK_STR(str(password(&device)), token);
    /* The required size is for the longest signature: 42 escapes, a last digit, and %3D. */
    const char *signature = strstr(token, "&sig=") + 5;
    size_t longest = strlen(token) - strcspn(signature, "&") + 42 * 3 + 1 + 3;
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, NULL, 0, &len), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(len, longest + 1);
    char *enough = (char *)exact(len);
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, enough, len, &len), AZURE_DPS_OK);
    CHECK_TEXT(enough, len, token);
    /* After the run, there is no password. */
    CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, now, 4), AZURE_DPS_OK);
    CHECK_INT(no_password(&device), AZURE_DPS_ERR_NOT_DUE);
    azure_dps_deinit(&device.dps);
}

/* Returns the token of a run with this key. */
static const char *token_of(const char *key)
{
    device device;
    toaster(&device);
    CHECK_INT(azure_dps_key_from_base64(&device.keys[0], str(key)), AZURE_DPS_OK);
    begin(&device);
    const char *token = password(&device);
    azure_dps_deinit(&device.dps);
    azure_dps_key_wipe(&device.keys[0]);
    return token;
}

static void the_other_key_needs_a_new_session(void)
{
    for (int by_connack = 0; by_connack < 2; by_connack++) {
        for (uint8_t first = 0; first < 2; first++) {
            device device;
            row(format("by_connack %d, first %d", by_connack, first));
            toaster(&device);
            CHECK_INT(azure_dps_key_from_base64(&device.keys[first], str(GROUP_KEY)), AZURE_DPS_OK);
            CHECK_INT(azure_dps_key_from_base64(&device.keys[1 - first], str(TOASTER_KEY)), AZURE_DPS_OK);
            device.signer = azure_dps_two_keys_signer(device.keys);
            device.config.first_key = first;
            begin(&device);
            CHECK_STR(str(password(&device)), token_of(GROUP_KEY));
            CHECK_INT(azure_dps_get_key(&device.dps), first);
            if (by_connack) {
                CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 5), AZURE_DPS_OK);
            } else {
                CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 0), AZURE_DPS_OK);
                publish(&device, 0, NULL);
                CHECK_INT(message(&device, 0, RESPONSE "401/?$rid=1", "{\"errorCode\":401000}"), 1);
            }
            /* The run signs at once. The old session has no password and no request. */
            CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
            CHECK_INT(no_password(&device), AZURE_DPS_ERR_NOT_DUE);
            CHECK_INT(no_publish(&device), AZURE_DPS_ERR_NOT_DUE);
            sign(&device, 0);
            CHECK_INT(azure_dps_get_key(&device.dps), 1 - first);
            CHECK_STR(str(password(&device)), token_of(TOASTER_KEY));
            CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 0), AZURE_DPS_OK);
            const char *number = strrchr(publish(&device, 0, NULL), '=');
            CHECK_INT(message(&device, 0, format(RESPONSE "200/?$rid%s", number), assigned()), 1);
            CHECK_STR(str(hub_of(&device)), TOASTERS_HUB);
            CHECK_INT(azure_dps_get_key(&device.dps), 1 - first);
            azure_dps_deinit(&device.dps);
        }
    }
}

/* Returns the next event, or 0. */
static int32_t told(device *device)
{
    azure_dps_progress progress = {0, 0, 0, 0};
    return azure_dps_get_progress(&device->dps, &progress) == 1 ? progress.what : 0;
}

static void progress_comes_in_order(void)
{
    device device;
    toaster(&device);
    begin(&device);
    CHECK_INT(told(&device), 0);
    CHECK_INT(azure_dps_mqtt_on_connack(&device.dps, 0, 0), AZURE_DPS_OK);
    CHECK_INT(told(&device), AZURE_DPS_PROGRESS_CONNECTED);
    publish(&device, 0, NULL);
    CHECK_INT(told(&device), AZURE_DPS_PROGRESS_REGISTERING);
    CHECK_INT(message(&device, 0, RESPONSE "202/?$rid=1&retry-after=3", assigning()), 1);
    CHECK_INT(told(&device), AZURE_DPS_PROGRESS_ASSIGNING);
    publish(&device, 3000, NULL);
    CHECK_INT(told(&device), 0);
    CHECK_INT(message(&device, 3000, RESPONSE "200/?$rid=2", assigned()), 1);
    CHECK_INT(told(&device), AZURE_DPS_PROGRESS_ASSIGNED);
    CHECK_INT(told(&device), 0);
    azure_dps_deinit(&device.dps);
}

/* Every size up to the required one. A buffer that is too small does not change the run. */
static void buffers_have_exact_sizes(void)
{
    device device;
    toaster(&device);
    begin(&device);
    const char *user_name =
        SCOPE "/registrations/" TOASTER "/api-version=2021-06-01&ClientVersion=azure-dps%2F" VERSION;
    for (size_t size = 0; size <= strlen(user_name); size += size + 1 < strlen(user_name) ? 13 : 1) {
        char *small = size == 0 ? NULL : (char *)exact(size);
        size_t len = 0;
        row(format("%lu", (unsigned long)size));
        CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, small, size, &len),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(len, strlen(user_name) + 1);
    }
    char *text = (char *)exact(strlen(user_name) + 1);
    CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, text, strlen(user_name) + 1, NULL), AZURE_DPS_OK);
    CHECK_STR(str(text), user_name);
    for (size_t size = 0; size <= strlen(TOASTER); size += strlen(TOASTER)) {
        char *small = size == 0 ? NULL : (char *)exact(size);
        size_t len = 0;
        CHECK_INT(azure_dps_mqtt_write_client_id(&device.dps, small, size, &len),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(len, strlen(TOASTER) + 1);
    }
    text = (char *)exact(strlen(TOASTER) + 1);
    CHECK_INT(azure_dps_mqtt_write_client_id(&device.dps, text, strlen(TOASTER) + 1, NULL), AZURE_DPS_OK);
    CHECK_STR(str(text), TOASTER);

    for (int poll = 0; poll < 2; poll++) {
        azure_dps_str topic = {NULL, 0};
        azure_dps_bytes body = {NULL, 0};
        uint32_t now = poll ? 3000 : 0;
        size_t needed = 0;
        row(poll ? "poll" : "register");
        CHECK_INT(step(&device, now), AZURE_DPS_SEND);
        CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, now, NULL, 0, &topic, &body, &needed),
                  AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        for (size_t size = 1; size < needed; size += size + 1 < needed ? needed - 2 : 1) {
            size_t again = 0;
            CHECK_INT(
                azure_dps_mqtt_write_publish(&device.dps, now, exact(size), size, &topic, &body, &again),
                AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK_INT(again, needed);
        }
        CHECK_INT(step(&device, now), AZURE_DPS_SEND);
        char *buffer = (char *)exact(needed);
        CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, now, buffer, needed, &topic, &body, NULL),
                  AZURE_DPS_OK);
        CHECK_INT(topic.len + 1 + body.len, needed);
        CHECK(topic.ptr == buffer && topic.ptr[topic.len] == '\0');
        CHECK(body.len == 0 || body.ptr == (const uint8_t *)buffer + topic.len + 1);
        const char *number = strstr(topic.ptr, "$rid=") + 5;
        const char *answer = format(RESPONSE "202/?$rid=%d&retry-after=3", atoi(number));
        CHECK_INT(message(&device, now, answer, assigning()), 1);
        CHECK_INT(wait_of(&device, now), 3000);
    }
    azure_dps_deinit(&device.dps);
}

static void a_look_up_over_mqtt_is_unsupported(void)
{
    device device;
    toaster(&device);
    device.config.lookup = 1;
    begin(&device);
    CHECK_INT(no_password(&device), AZURE_DPS_ERR_UNSUPPORTED);
    CHECK_INT(no_publish(&device), AZURE_DPS_ERR_UNSUPPORTED);
    azure_dps_deinit(&device.dps);
}

static void topics_and_bodies_may_be_any_bytes(void)
{
    device device;
    toaster(&device);
    registering(&device);
    CHECK_INT(message(&device, 0, RESPONSE "202/?$rid=1&x=\xff", assigning()), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    publish(&device, 0, NULL);
    CHECK_INT(
        message(&device, 0, RESPONSE "200/?$rid=2", "{\"status\":\"assigning\xff\",\"operationId\":\"1\"}"),
        1);
    CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_MALFORMED);
    /* No body. */
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    sign(&device, 0);
    publish(&device, 0, NULL);
    CHECK_INT(azure_dps_mqtt_on_message(&device.dps, 0, exact_str(RESPONSE "200/?$rid=3"), NULL, 0), 1);
    CHECK(wait_of(&device, 0) > 0);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(the_tutorial_from_connect_to_hub);
    RUN(an_answer_to_an_earlier_run_is_ignored);
    RUN(parameters_come_in_any_order);
    RUN(other_messages_are_ignored);
    RUN(refusals_equal_those_of_http);
    RUN(a_status_that_is_not_a_number_is_malformed);
    RUN(connack);
    RUN(passwords);
    RUN(the_other_key_needs_a_new_session);
    RUN(progress_comes_in_order);
    RUN(buffers_have_exact_sizes);
    RUN(a_look_up_over_mqtt_is_unsupported);
    RUN(topics_and_bodies_may_be_any_bytes);
    return finish();
}
