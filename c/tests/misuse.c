/* Every function with an invalid client: NULL, zeros, garbage, moved, wiped, another kind of handle, not
 * aligned. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static azure_dps_key key;
static azure_dps_signer signer;
static uint8_t buffer[512];

/* Calls each function that takes a client. The other arguments are valid. Returns false after the last one. */
static bool call(int number, azure_dps_client *dps, azure_dps_result *result)
{
    azure_dps_assignment assignment;
    azure_dps_progress progress;
    azure_dps_error error;
    azure_dps_str text;
    azure_dps_bytes bytes;
    azure_dps_reprovisioning life;
    uint8_t signature[32] = {0};
    uint8_t *space;
    size_t len;
    uint32_t wait;
    uint16_t port;
    bool keep_alive;
    device device;
    peer peer;
    char *chars = (char *)buffer;
    size_t size = sizeof buffer;
    memset(&peer, 0, sizeof peer);
    azure_dps_io io = io_of(&peer);
    certified(&device, TOASTER);
    CHECK_INT(azure_dps_reprovisioning_init(&life, &device.config, NULL, NULL, 0), AZURE_DPS_OK);
    switch (number) {
    case 0: *result = azure_dps_set_endpoint(dps, str("localhost")); break;
    case 1: *result = azure_dps_write_host(dps, chars, size, &len, &port); break;
    case 2: *result = azure_dps_start(dps, 0, 0); break;
    case 3: *result = azure_dps_step(dps, 0, &wait); break;
    case 4: *result = azure_dps_sign(dps, &signer, buffer, size); break;
    case 5: *result = azure_dps_write_message(dps, buffer, size, &len); break;
    case 6: *result = azure_dps_on_signature(dps, signature); break;
    case 7: *result = azure_dps_get_key(dps); break;
    case 8: *result = azure_dps_on_error(dps, 0, AZURE_DPS_ERR_CONNECT); break;
    case 9: *result = azure_dps_get_progress(dps, &progress); break;
    case 10: *result = azure_dps_mqtt_write_client_id(dps, chars, size, &len); break;
    case 11: *result = azure_dps_mqtt_write_user_name(dps, chars, size, &len); break;
    case 12: *result = azure_dps_mqtt_write_password(dps, chars, size, &len); break;
    case 13: *result = azure_dps_mqtt_on_connack(dps, 0, 0); break;
    case 14: *result = azure_dps_mqtt_write_publish(dps, 0, buffer, size, &text, &bytes, &len); break;
    case 15: *result = azure_dps_mqtt_on_message(dps, 0, str("x"), "{}", 2); break;
    case 16: *result = azure_dps_http_write_request(dps, 0, buffer, size, &len); break;
    case 17: *result = azure_dps_http_space(dps, 0, buffer, size, &space, &len); break;
    case 18: *result = azure_dps_http_received(dps, 0, buffer, size, 1, &keep_alive); break;
    case 19: *result = azure_dps_run(dps, 0, &signer, buffer, size, &io); break;
    case 20: *result = azure_dps_get_assignment(dps, buffer, size, &assignment); break;
    case 21: *result = azure_dps_get_error(dps, &error); break;
    case 22: *result = azure_dps_write_error(dps, chars, size, &len); break;
    case 23: *result = azure_dps_write_service_message(dps, "{}", 2, chars, size, &len); break;
    case 24: *result = azure_dps_write_record(dps, "{}", 2, buffer, size, &len); break;
    case 25: *result = azure_dps_tpm_get_challenge(dps, buffer, size, &text); break;
    case 26: *result = azure_dps_tpm_on_activated(dps); break;
    case 27: *result = azure_dps_tpm_activate(dps, &signer, buffer, size); break;
    case 28: *result = azure_dps_reprovisioning_on_assigned(&life, 0, dps, buffer, size); break;
    case 29: *result = azure_dps_reprovisioning_on_failed(&life, 0, dps); break;
    default: return false;
    }
    /* These functions return no error. They must change nothing. */
    CHECK_INT(azure_dps_request_time_left(dps, 0), 0);
    azure_dps_on_connected(dps);
    CHECK_INT(peer.connected, 0);
    return true;
}

static void check_all(azure_dps_client *dps, azure_dps_result expected)
{
    azure_dps_result result = 0;
    memset(buffer, 0, sizeof buffer);
    for (int number = 0; call(number, dps, &result); number++) {
        row(format("function %d", number));
        CHECK_INT(result, expected);
    }
    azure_dps_deinit(dps);
}

static void no_client_at_all(void)
{
    check_all(NULL, AZURE_DPS_ERR_ARGUMENT);
}

static void memory_that_was_not_initialised(void)
{
    azure_dps_client dps;
    static const int fills[] = {0, 0xff, 0x5a};
    for (size_t i = 0; i < 3; i++) {
        memset(&dps, fills[i], sizeof dps);
        check_all(&dps, AZURE_DPS_ERR_HANDLE);
    }
    /* A client after an init that failed. */
    device device;
    certified(&device, TOASTER);
    device.config.attestation = 77;
    CHECK_INT(azure_dps_init(&dps, &device.config), AZURE_DPS_ERR_ARGUMENT);
    check_all(&dps, AZURE_DPS_ERR_HANDLE);
}

static void a_client_that_was_moved(void)
{
    device device;
    toaster(&device);
    begin(&device);
    azure_dps_client *moved = (azure_dps_client *)exact(sizeof *moved);
    memcpy(moved, &device.dps, sizeof *moved);
    check_all(moved, AZURE_DPS_ERR_HANDLE);
    /* The original still works, also after it is moved back. */
    azure_dps_client other = device.dps;
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    device.dps = other;
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    azure_dps_deinit(&device.dps);
    memset(moved, 0, sizeof *moved);
}

static void a_client_that_was_deinitialised(void)
{
    device device;
    toaster(&device);
    begin(&device);
    azure_dps_deinit(&device.dps);
    check_all(&device.dps, AZURE_DPS_ERR_HANDLE);
}

static void other_kinds_of_handles(void)
{
    device device;
    azure_dps_client dps;
    certified(&device, TOASTER);
    memset(&dps, 0, sizeof dps);
    CHECK_INT(azure_dps_key_from_base64((azure_dps_key *)(void *)&dps, str(TOASTER_KEY)), AZURE_DPS_OK);
    check_all(&dps, AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_reprovisioning_init((azure_dps_reprovisioning *)(void *)&dps, &device.config, NULL,
                                            NULL, 0),
              AZURE_DPS_OK);
    check_all(&dps, AZURE_DPS_ERR_HANDLE);
    memset(&dps, 0, sizeof dps);
}

static void an_address_that_is_not_aligned(void)
{
    device device;
    uint8_t *memory = (uint8_t *)exact(sizeof(azure_dps_client) + 8);
    memset(memory, 0, sizeof(azure_dps_client) + 8);
    certified(&device, TOASTER);
    /* Through void *, as from a memory pool. */
    void *odd = memory + 1;
    azure_dps_client *dps;
    memcpy(&dps, &odd, sizeof dps);
    uint32_t sizes = sizeof(azure_dps_client) << 16 | sizeof(azure_dps_config) << 8 | sizeof(azure_dps_error);
    CHECK_INT(azure_dps_init_abi(dps, &device.config, AZURE_DPS_ABI, sizes), AZURE_DPS_ERR_HANDLE);
    check_all(dps, AZURE_DPS_ERR_HANDLE);
}

/* NULL for each pointer, with a valid client. */
static void arguments_of_functions_on_a_client(void)
{
    device device;
    azure_dps_assignment assignment;
    azure_dps_str text, no_text = {NULL, 3};
    azure_dps_bytes bytes;
    size_t len;
    uint8_t *space;
    toaster(&device);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    azure_dps_client *dps = &device.dps;
    CHECK_INT(azure_dps_set_endpoint(dps, no_text), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_host(dps, NULL, 9, &len, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_start(dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK_INT(azure_dps_step(dps, 0, NULL), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(dps, NULL, buffer, sizeof buffer), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_sign(dps, &signer, NULL, 9), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_message(dps, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_on_signature(dps, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_step(dps, 0, NULL), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_sign(dps, &signer, buffer, sizeof buffer), AZURE_DPS_OK);
    CHECK_INT(azure_dps_step(dps, 0, NULL), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_get_progress(dps, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_client_id(dps, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_user_name(dps, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_password(dps, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_publish(dps, 0, NULL, 9, &text, &bytes, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_publish(dps, 0, buffer, sizeof buffer, NULL, &bytes, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_publish(dps, 0, buffer, sizeof buffer, &text, NULL, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_on_message(dps, 0, no_text, "", 0), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_on_message(dps, 0, str("x"), NULL, 1), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_http_write_request(dps, 0, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_step(dps, 0, NULL), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_http_write_request(dps, 0, device.buffer, sizeof device.buffer, NULL), AZURE_DPS_OK);
    CHECK_INT(azure_dps_http_space(dps, 0, NULL, 9, &space, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_http_space(dps, 0, device.buffer, 99, NULL, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_http_space(dps, 0, device.buffer, 99, &space, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_http_received(dps, 0, NULL, 9, 1, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(answer(&device, 0, http("200 OK", "", assigned()), 99, NULL), 1);
    CHECK_INT(azure_dps_get_assignment(dps, device.buffer, sizeof device.buffer, &assignment), AZURE_DPS_OK);
    CHECK_INT(azure_dps_get_error(dps, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_error(dps, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_service_message(dps, NULL, 9, (char *)buffer, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_service_message(dps, buffer, 9, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    /* A length that no object can have. */
    CHECK_INT(azure_dps_get_assignment(dps, device.buffer, SIZE_MAX, &assignment), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_error(dps, (char *)buffer, SIZE_MAX, &len), AZURE_DPS_ERR_ARGUMENT);
    azure_dps_deinit(dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
    signer = azure_dps_key_signer(&key);
    RUN(no_client_at_all);
    RUN(memory_that_was_not_initialised);
    RUN(a_client_that_was_moved);
    RUN(a_client_that_was_deinitialised);
    RUN(other_kinds_of_handles);
    RUN(an_address_that_is_not_aligned);
    RUN(arguments_of_functions_on_a_client);
    azure_dps_key_wipe(&key);
    return finish();
}
