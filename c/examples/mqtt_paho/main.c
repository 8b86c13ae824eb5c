/*
 * Provisions a device over MQTT with paho. With --connect, it also connects to the hub.
 *
 *     dps-emulator --mqtts 127.0.0.1:8883 --ca-out ca.pem
 *     export AZURE_DPS_SYMMETRIC_KEY=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=
 *     mqtt_paho --id-scope 0ne00002193 --registration-id breakroom499-contoso-tstrsd-007 \
 *         --host localhost:8883 --ca ca.pem --connect --hub-address localhost:8883
 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "../common/device.h"
#include "hub.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static azure_dps_client dps;
/* Room for the longest IDs, and for payloads of up to 2 KB. Answers are longer than requests. */
static uint8_t buffer[AZURE_DPS_MQTT_ANSWER_SIZE(AZURE_DPS_REGISTRATION_ID_MAX, 2048)];

static uint32_t now(void) { return device_clock_ms(NULL); }

/* Closes the session and reports the failure. azure_dps_step() then decides what to do. */
static azure_dps_result on_failure(struct session *session, azure_dps_result error)
{
    session_close(session);
    return azure_dps_on_error(&dps, now(), error);
}

/* Opens the session. The token is its password. */
static azure_dps_result sign_in(struct session *session)
{
    char host[AZURE_DPS_HOST_SIZE], client_id[AZURE_DPS_REGISTRATION_ID_MAX + 1];
    char user_name[AZURE_DPS_MQTT_USER_NAME_SIZE(AZURE_DPS_ID_SCOPE_MAX, AZURE_DPS_REGISTRATION_ID_MAX)];
    char password[AZURE_DPS_SAS_TOKEN_SIZE(AZURE_DPS_ID_SCOPE_MAX, AZURE_DPS_REGISTRATION_ID_MAX)];
    uint16_t port = AZURE_DPS_MQTT_PORT;
    azure_dps_result result = azure_dps_write_host(&dps, host, sizeof host, NULL, &port);
    if (result == AZURE_DPS_OK) {
        result = azure_dps_mqtt_write_client_id(&dps, client_id, sizeof client_id, NULL);
    }
    if (result == AZURE_DPS_OK) {
        result = azure_dps_mqtt_write_user_name(&dps, user_name, sizeof user_name, NULL);
    }
    if (result == AZURE_DPS_OK) result = azure_dps_mqtt_write_password(&dps, password, sizeof password, NULL);
    if (result != AZURE_DPS_OK) return result;
    int32_t code =
        session_open(session, host, port, client_id, user_name, password[0] != '\0' ? password : NULL,
                     azure_dps_request_time_left(&dps, now()));
    explicit_bzero(password, sizeof password);
    if (code < 0) return on_failure(session, code);
    result = azure_dps_mqtt_on_connack(&dps, now(), (uint8_t)code);
    if (code == 0 && !session_subscribe(session, AZURE_DPS_MQTT_SUBSCRIBE_FILTER)) {
        return on_failure(session, AZURE_DPS_ERR_STREAM);
    }
    return result;
}

/* Publishes the request that is due. Passes in the answer, or the error if there is no answer. */
static azure_dps_result exchange(struct session *session)
{
    azure_dps_str topic;
    azure_dps_bytes body;
    azure_dps_result result = session->client != NULL ? AZURE_DPS_OK : sign_in(session);
    /* If there is no session, azure_dps_step() returns the next step. */
    if (result != AZURE_DPS_OK || session->client == NULL) return result;

    result = azure_dps_mqtt_write_publish(&dps, now(), buffer, sizeof buffer, &topic, &body, NULL);
    if (result != AZURE_DPS_OK) return result;
    if (!session_publish(session, topic.ptr, body.ptr, body.len)) {
        return on_failure(session, AZURE_DPS_ERR_STREAM);
    }
    for (;;) {
        int received = session_receive(session, azure_dps_request_time_left(&dps, now()));
        if (received < 0) return on_failure(session, AZURE_DPS_ERR_CLOSED);
        if (received == 0) return on_failure(session, AZURE_DPS_ERR_STALLED);
        /* The assignment points into the answer. Copy the answer, because paho frees its message. */
        size_t len = (size_t)session->message->payloadlen;
        if (len > sizeof buffer) return AZURE_DPS_ERR_BUFFER_TOO_SMALL;
        memcpy(buffer, session->message->payload, len);
        azure_dps_str from = {session->topic, (size_t)session->topic_len};
        int32_t answered = azure_dps_mqtt_on_message(&dps, now(), from, buffer, len);
        if (answered != 0) return answered == 1 ? AZURE_DPS_OK : answered;
    }
}

/* Waits. paho handles pings only inside its functions, such as MQTTClient_receive(). */
static void wait(struct session *session, uint32_t wait_ms)
{
    uint32_t started = now(), passed = 0;
    while (passed < wait_ms && session->client != NULL) {
        if (session_receive(session, wait_ms - passed) < 0) session_close(session);
        passed = now() - started;
    }
    if (passed < wait_ms) device_delay_ms(NULL, wait_ms - passed);
}

/* Does the whole run. Afterwards, the last answer is in `buffer`. */
static azure_dps_result drive(struct session *session, const azure_dps_signer *signer)
{
    azure_dps_error error;
    azure_dps_result result = azure_dps_start(&dps, now(), (uint64_t)time(NULL));
    while (result == AZURE_DPS_OK) {
        uint32_t wait_ms;
        int32_t step = azure_dps_step(&dps, now(), &wait_ms);
        switch (step) {
        case AZURE_DPS_SIGN:
            /* The new token is the password of a new session. */
            session_close(session);
            result = azure_dps_sign(&dps, signer, buffer, sizeof buffer);
            break;
        case AZURE_DPS_SEND: result = exchange(session); break;
        case AZURE_DPS_WAIT: wait(session, wait_ms); break;
        case AZURE_DPS_FINISHED: return azure_dps_get_error(&dps, &error);
        default:
            /* Wrong use. AZURE_DPS_ACTIVATE is for a TPM, over HTTP. */
            result = step < 0 ? step : AZURE_DPS_ERR_UNSUPPORTED;
        }
    }
    return result;
}

static int provision(struct device *device, struct session *session)
{
    azure_dps_config config = device_config(device);
    azure_dps_signer keys;
    const azure_dps_signer *signer = device_signer(device, &keys);
    azure_dps_assignment assignment;

    azure_dps_result result = azure_dps_init(&dps, &config);
    if (result == AZURE_DPS_OK && device->endpoint != NULL) {
        result = azure_dps_set_endpoint(&dps, azure_dps_str_of(device->endpoint));
    }
    if (result == AZURE_DPS_OK) result = drive(session, signer);
    session_close(session);
    if (result == AZURE_DPS_OK) result = azure_dps_get_assignment(&dps, buffer, sizeof buffer, &assignment);
    int exit_code = result == AZURE_DPS_OK ? device_print(&assignment)
                                           : device_report(&dps, result, buffer, sizeof buffer, false);
    if (result == AZURE_DPS_OK && device->connect) {
        exit_code = hub_exit_code(hub_visit(session, device, &assignment, signer, azure_dps_get_key(&dps)));
    }
    azure_dps_deinit(&dps);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct device device;
    device_read(&device, argc, argv, "Provisions a device over MQTT with paho, and connects it to its hub.");
    struct session session = {
        .ca_file = device.ca_file, .certificate = device.certificate, .private_key = device.private_key};
    int exit_code = provision(&device, &session);
    device_wipe(&device);
    return exit_code;
}
