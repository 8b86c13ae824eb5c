/*
 * A device without an operating system, on a Cortex-M3. It derives its key, signs its token, and provisions
 * over MQTT. There is no network: the answers are recorded, and the clock is a variable.
 *
 * For real firmware, replace answer() with your MQTT client, and sleep() with your delay.
 */
#include <stdbool.h>
#include <string.h>

#include "azure_dps.h"
#include "semihosting.h"

#define ID_SCOPE "0ne00002193"
#define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
#define PAYLOAD "{\"MyDeviceFirmwareVersion\":\"12.0.2.5\",\"MyDeviceProvisioningVersion\":\"1.0.0.0\"}"
/* From Microsoft's tutorial. A real device has only its own key. */
#define GROUP_KEY "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
#define DEVICE_KEY "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs="

/* In vectors.S. */
extern const char assigning[], assigning_end[], assigned[], assigned_end[], its_twin[], its_twin_end[];

/* A tick counter of 32 bits. It wraps during the run of 3 seconds. */
static uint32_t now_ms = 0xfffffc00u;

static void sleep(uint32_t ms)
{
    now_ms += ms;
}

static int failures;

static void check(bool passed, const char *what)
{
    semihosting_print(passed ? "  ok      " : "  FAILED  ");
    semihosting_print(what);
    semihosting_print("\n");
    if (!passed) failures++;
}

static bool equal(azure_dps_str left, const char *right)
{
    return left.ptr != NULL && left.len == strlen(right) && memcmp(left.ptr, right, left.len) == 0;
}

static azure_dps_str between(const char *start, const char *end)
{
    azure_dps_str str = {start, (size_t)(end - start)};
    return str;
}

/* An answer of the service: topic and body. */
struct message {
    const char *topic;
    azure_dps_str body;
};

/* Returns a recorded answer. In real firmware, publish `topic` and wait for a message. */
static struct message answer(azure_dps_str topic)
{
    struct message message = {NULL, {NULL, 0}};
    if (equal(topic, "$dps/registrations/PUT/iotdps-register/?$rid=1")) {
        message.topic = "$dps/registrations/res/202/?$rid=1&retry-after=3";
        message.body = between(assigning, assigning_end);
    } else if (equal(topic, "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId="
                            "4.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d")) {
        message.topic = "$dps/registrations/res/200/?$rid=2";
        message.body = between(assigned, assigned_end);
    } else if (equal(topic, "$dps/registrations/PUT/iotdps-register/?$rid=3")) {
        message.topic = "$dps/registrations/res/401/?$rid=3";
        message.body =
            azure_dps_str_of("{\"errorCode\":401002,\"trackingId\":\"7e9a0d5c-7b6c-4d3a-8a52-3f5f1f6a7a01\","
                             "\"message\":\"Invalid certificate.\"}");
    }
    return message;
}

/* Does one run. Returns the body of the last message, which has the result. */
static azure_dps_str provision(azure_dps_client *dps, azure_dps_signer *signer, uint64_t unix_time)
{
    char buffer[512];
    azure_dps_str topic, last = {NULL, 0};
    azure_dps_bytes body;
    struct message message;
    uint32_t wait_ms;

    if (azure_dps_start(dps, now_ms, unix_time) != AZURE_DPS_OK) return last;
    for (;;) {
        switch (azure_dps_step(dps, now_ms, &wait_ms)) {
        case AZURE_DPS_SIGN:
            if (azure_dps_sign(dps, signer, buffer, sizeof buffer) != AZURE_DPS_OK) return last;
            /* In real firmware, connect the MQTT client with user name and password here. */
            if (azure_dps_mqtt_on_connack(dps, now_ms, 0) != AZURE_DPS_OK) return last;
            break;
        case AZURE_DPS_SEND:
            if (azure_dps_mqtt_write_publish(dps, now_ms, buffer, sizeof buffer, &topic, &body, NULL) !=
                AZURE_DPS_OK) {
                return last;
            }
            message = answer(topic);
            sleep(200);
            if (message.topic == NULL) {
                (void)azure_dps_on_error(dps, now_ms, AZURE_DPS_ERR_STALLED);
            } else if (azure_dps_mqtt_on_message(dps, now_ms, azure_dps_str_of(message.topic),
                                                 message.body.ptr, message.body.len) == 1) {
                last = message.body;
            }
            break;
        case AZURE_DPS_WAIT:
            sleep(wait_ms);
            break;
        default:
            return last;
        }
    }
}

static void keys(azure_dps_key *key)
{
    char text[45];
    size_t len;
    semihosting_print("The key:\n");
    check(azure_dps_key_derive(key, azure_dps_str_of(GROUP_KEY), azure_dps_str_of(REGISTRATION_ID)) ==
              AZURE_DPS_OK,
          "is derived from the key of the group");
    check(azure_dps_key_write_base64(key, text, sizeof text, &len) == AZURE_DPS_OK && len == 44 &&
              strcmp(text, DEVICE_KEY) == 0,
          "equals the key in the tutorial");
    check(azure_dps_key_write_base64(key, text, 44, &len) == AZURE_DPS_ERR_BUFFER_TOO_SMALL && len == 45,
          "needs 45 bytes as text");
}

static void session(azure_dps_client *dps, azure_dps_signer *signer)
{
    static const char user_name[] =
        ID_SCOPE "/registrations/" REGISTRATION_ID "/api-version=2021-06-01&ClientVersion=";
    char buffer[256];
    uint32_t wait_ms;
    semihosting_print("The session:\n");
    check(azure_dps_start(dps, now_ms, 1700000000u) == AZURE_DPS_OK &&
              azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_SIGN &&
              azure_dps_sign(dps, signer, buffer, sizeof buffer) == AZURE_DPS_OK &&
              azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_SEND,
          "is signed");
    check(azure_dps_mqtt_write_user_name(dps, buffer, sizeof buffer, NULL) == AZURE_DPS_OK &&
              strncmp(buffer, user_name, sizeof user_name - 1) == 0,
          "has the user name");
    /* The expected signature is from Python's hmac. */
    check(azure_dps_mqtt_write_password(dps, buffer, sizeof buffer, NULL) == AZURE_DPS_OK &&
              strcmp(buffer,
                     "SharedAccessSignature sr=" ID_SCOPE "%2fregistrations%2f" REGISTRATION_ID "&sig="
                     "siQ2gmcwkLV1BuHlWVKY0RWtYaFSZtX9CKBBAJbJYXI%3D&se=1700003600&skn=registration") == 0,
          "has the password");
}

static void first_boot(azure_dps_client *dps, azure_dps_signer *signer)
{
    azure_dps_assignment assignment;
    azure_dps_error error;
    azure_dps_str value;
    uint32_t number;
    char hub[64];
    size_t len;

    semihosting_print("The first boot:\n");
    azure_dps_str body = provision(dps, signer, 1700000000u);
    bool is_assigned = azure_dps_get_assignment(dps, body.ptr, body.len, &assignment) == AZURE_DPS_OK;
    check(is_assigned, "ends with an assignment");
    if (!is_assigned) return;
    check(now_ms == 0xfffffc00u + 3400, "takes two answers and a wait of 3 s, in which the clock wraps");
    check(azure_dps_str_copy(assignment.assigned_hub, hub, sizeof hub, &len) == AZURE_DPS_OK &&
              strcmp(hub, "contoso-toasters-hub-1098.azure-devices.net") == 0,
          "names the hub");
    check(equal(assignment.device_id, REGISTRATION_ID), "names the device");
    check(azure_dps_get_substatus(&assignment) == AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT,
          "is the first assignment");
    check(azure_dps_json_get(assignment.payload, azure_dps_str_of("property2"), &value) == AZURE_DPS_OK &&
              azure_dps_json_get(value, azure_dps_str_of("property2-2"), &value) == AZURE_DPS_OK &&
              azure_dps_json_u32(value, &number) == AZURE_DPS_OK && number == 1234,
          "has the payload of the operator's webhook");
    check(azure_dps_get_error(dps, &error) == AZURE_DPS_OK, "has no error");
}

static void refusal(azure_dps_client *dps, azure_dps_signer *signer)
{
    azure_dps_assignment assignment;
    azure_dps_error error;

    semihosting_print("A refusal:\n");
    azure_dps_str body = provision(dps, signer, 1700000000u);
    check(azure_dps_get_assignment(dps, body.ptr, body.len, &assignment) == AZURE_DPS_ERR_REFUSED,
          "is not an assignment");
    check(azure_dps_get_error(dps, &error) == AZURE_DPS_ERR_REFUSED &&
              error.result == AZURE_DPS_ERR_REFUSED && error.http_status == 401 && error.code == 401002,
          "has the error code");
    check(error.fault == AZURE_DPS_FAULT_CREDENTIAL, "is about the key");
    check(strcmp(error.tracking_id, "7e9a0d5c-7b6c-4d3a-8a52-3f5f1f6a7a01") == 0,
          "has the tracking ID for Microsoft's support");
}

static void silence(azure_dps_client *dps, azure_dps_signer *signer)
{
    char buffer[512];
    azure_dps_str topic;
    azure_dps_bytes body;
    uint32_t wait_ms;

    semihosting_print("No answer:\n");
    now_ms = 0xffffff00u;
    check(azure_dps_start(dps, now_ms, 1700000000u) == AZURE_DPS_OK &&
              azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_SIGN &&
              azure_dps_sign(dps, signer, buffer, sizeof buffer) == AZURE_DPS_OK &&
              azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_SEND &&
              azure_dps_mqtt_write_publish(dps, now_ms, buffer, sizeof buffer, &topic, &body, NULL) ==
                  AZURE_DPS_OK,
          "the request is sent just before the clock wraps");
    sleep(59999);
    check(azure_dps_request_time_left(dps, now_ms) == 1, "1 ms is left of the minute");
    sleep(1);
    check(azure_dps_request_time_left(dps, now_ms) == 0, "the minute is over");
    check(azure_dps_on_error(dps, now_ms, AZURE_DPS_ERR_STALLED) == AZURE_DPS_OK &&
              azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_WAIT && wait_ms > 0,
          "the request is repeated after a pause");
    sleep(540000);
    check(azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_FINISHED, "the run ends after ten minutes");
}

static void misuse(azure_dps_client *dps)
{
    azure_dps_client moved;
    uint32_t wait_ms;

    semihosting_print("Misuse:\n");
    memcpy(&moved, dps, sizeof moved);
    check(azure_dps_step(&moved, now_ms, &wait_ms) == AZURE_DPS_ERR_HANDLE,
          "a moved client is rejected");
    azure_dps_deinit(dps);
    check(azure_dps_step(dps, now_ms, &wait_ms) == AZURE_DPS_ERR_HANDLE, "a client after deinit is rejected");
}

int main(void)
{
    static azure_dps_client dps;
    azure_dps_key key;
    azure_dps_config config = {0};

    config.id_scope = azure_dps_str_of(ID_SCOPE);
    config.registration_id = azure_dps_str_of(REGISTRATION_ID);
    config.payload = azure_dps_str_of(PAYLOAD);
    keys(&key);
    azure_dps_signer signer = azure_dps_key_signer(&key);
    check(azure_dps_init(&dps, &config) == AZURE_DPS_OK, "the configuration is accepted");
    session(&dps, &signer);
    first_boot(&dps, &signer);
    refusal(&dps, &signer);
    silence(&dps, &signer);
    misuse(&dps);
    azure_dps_key_wipe(&key);
    semihosting_print(failures == 0 ? "all checks passed\n" : "CHECKS FAILED\n");
    return failures;
}
