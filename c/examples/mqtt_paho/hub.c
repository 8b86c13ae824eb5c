#define _DEFAULT_SOURCE /* explicit_bzero */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXIT_HUB_REFUSES 11
#define EXIT_HUB_UNREACHABLE 12
#define TIMEOUT_MS 30000
#define DEVICE_ID_MAX 128

/* The request IDs. The answers contain them. */
#define GET_TWIN 1
#define REPORT 2

static int32_t unreachable(const char *why)
{
    fprintf(stderr, "error: the hub: %s\n", why);
    return AZURE_DPS_HUB_UNREACHABLE;
}

/* Opens the session. Returns the outcome. */
static int32_t sign_in(struct session *session, const struct device *device, const azure_dps_hub *hub,
                       const azure_dps_signer *signer, int32_t which_key)
{
    char host[AZURE_DPS_HOST_SIZE], client_id[DEVICE_ID_MAX + 1];
    char user_name[AZURE_DPS_HUB_USER_NAME_SIZE(AZURE_DPS_HOST_SIZE, 3 * DEVICE_ID_MAX)];
    char password[AZURE_DPS_HUB_PASSWORD_SIZE(AZURE_DPS_HOST_SIZE, 3 * DEVICE_ID_MAX)] = "";
    uint16_t port = AZURE_DPS_HUB_MQTT_PORT;
    uint64_t in_an_hour = (uint64_t)time(NULL) + 3600;
    azure_dps_result result = azure_dps_hub_write_host(hub, host, sizeof host, NULL, &port);
    if (result == AZURE_DPS_OK) {
        result = azure_dps_str_copy(hub->device_id, client_id, sizeof client_id, NULL);
    }
    if (result == AZURE_DPS_OK) {
        result = azure_dps_hub_write_user_name(hub, user_name, sizeof user_name, NULL);
    }
    if (result == AZURE_DPS_OK && signer != NULL) {
        result =
            azure_dps_hub_write_password(hub, signer, which_key, in_an_hour, password, sizeof password, NULL);
    }
    if (result != AZURE_DPS_OK) return unreachable(azure_dps_result_name(result));
    if (device->hub_address != NULL) {
        const char *colon = strrchr(device->hub_address, ':');
        size_t len = colon != NULL ? (size_t)(colon - device->hub_address) : strlen(device->hub_address);
        snprintf(host, sizeof host, "%.*s", (int)len, device->hub_address);
        if (colon != NULL) port = (uint16_t)atoi(colon + 1);
    }
    int32_t code =
        session_open(session, host, port, client_id, user_name, signer != NULL ? password : NULL, TIMEOUT_MS);
    explicit_bzero(password, sizeof password);
    if (code > 0) {
        fprintf(stderr, "error: the hub rejects the device: CONNACK %d\n", (int)code);
        return azure_dps_hub_outcome_from_connack((uint8_t)code);
    }
    return code == 0 ? AZURE_DPS_HUB_ACCEPTED : unreachable(azure_dps_result_name(code));
}

/* Waits for the answer to a request about the twin. Returns false if there is none. */
static bool receive_twin(struct session *session, uint32_t request_id, azure_dps_twin_message *twin)
{
    uint32_t started = device_clock_ms(NULL), passed = 0;
    while (passed < TIMEOUT_MS && session_receive(session, TIMEOUT_MS - passed) == 1) {
        azure_dps_str topic = {session->topic, (size_t)session->topic_len};
        azure_dps_result result =
            azure_dps_twin_read(topic, session->message->payload, (size_t)session->message->payloadlen, twin);
        if (result == AZURE_DPS_OK && twin->what != AZURE_DPS_TWIN_CHANGE && twin->request_id == request_id) {
            return true;
        }
        passed = device_clock_ms(NULL) - started;
    }
    return false;
}

/* Telemetry and twin in one session. Returns the outcome. */
static int32_t talk(struct session *session, const azure_dps_hub *hub)
{
    static const char TEMPERATURE[] = "{\"temperature\":21.5}", FIRMWARE[] = "{\"firmware\":\"12.0.2.5\"}";
    static const azure_dps_property UNIT = {{"unit", 4}, {"celsius", 7}};
    char topic[AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE(3 * DEVICE_ID_MAX) + sizeof "&unit=celsius"];
    azure_dps_twin_message twin;

    azure_dps_result result = azure_dps_hub_write_telemetry_topic(hub, &UNIT, 1, topic, sizeof topic, NULL);
    if (result != AZURE_DPS_OK) return unreachable(azure_dps_result_name(result));
    if (!session_publish(session, topic, TEMPERATURE, sizeof TEMPERATURE - 1)) {
        return unreachable("telemetry");
    }

    if (!session_subscribe(session, AZURE_DPS_TWIN_ANSWER_FILTER)) return unreachable("the subscription");
    if (!session_subscribe(session, AZURE_DPS_TWIN_CHANGE_FILTER)) return unreachable("the subscription");

    result = azure_dps_twin_write_get_topic(GET_TWIN, topic, sizeof topic, NULL);
    if (result != AZURE_DPS_OK) return unreachable(azure_dps_result_name(result));
    if (!session_publish(session, topic, "", 0)) return unreachable("the request for the twin");
    if (!receive_twin(session, GET_TWIN, &twin) || twin.what != AZURE_DPS_TWIN_WHOLE) {
        return unreachable("no answer with the twin");
    }
    device_print_line(stdout, "twin:", twin.desired);

    result = azure_dps_twin_write_report_topic(REPORT, topic, sizeof topic, NULL);
    if (result != AZURE_DPS_OK) return unreachable(azure_dps_result_name(result));
    if (!session_publish(session, topic, FIRMWARE, sizeof FIRMWARE - 1)) return unreachable("the report");
    if (!receive_twin(session, REPORT, &twin) || twin.what != AZURE_DPS_TWIN_REPORTED) {
        return unreachable("no answer to the report");
    }
    device_print_line(stdout, "reported:", azure_dps_str_of(FIRMWARE));
    return AZURE_DPS_HUB_ACCEPTED;
}

int32_t hub_visit(struct session *session, const struct device *device,
                  const azure_dps_assignment *assignment, const azure_dps_signer *signer, int32_t which_key)
{
    azure_dps_hub hub = {assignment->assigned_hub, assignment->device_id};
    int32_t outcome = sign_in(session, device, &hub, signer, which_key);
    if (outcome == AZURE_DPS_HUB_ACCEPTED) outcome = talk(session, &hub);
    session_close(session);
    return outcome;
}

int hub_exit_code(int32_t outcome)
{
    switch (outcome) {
    case AZURE_DPS_HUB_ACCEPTED: return EXIT_SUCCESS;
    case AZURE_DPS_HUB_UNREACHABLE: return EXIT_HUB_UNREACHABLE;
    default: return EXIT_HUB_REFUSES;
    }
}
