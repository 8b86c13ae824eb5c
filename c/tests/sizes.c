/* The sizes in the header are large enough, and not much larger than needed. */
#include <stdio.h>
#include <string.h>

#include "support.h"

#define SCOPE_LEN (sizeof SCOPE - 1)
#define ID_LEN (sizeof TOASTER - 1)
#define PAYLOAD_LEN (sizeof PAYLOAD - 1)
#define HUB_LEN (sizeof TOASTERS_HUB - 1)

static void sizes_of_a_run_over_http(void)
{
    device device;
    peer peer;
    azure_dps_assignment assignment;
    size_t len = 0;
    size_t returned = strlen(strstr(assigned(), "\"payload\":"));
    size_t size = AZURE_DPS_HTTP_SIZE(SCOPE_LEN, ID_LEN, PAYLOAD_LEN, returned);
    void *buffer = exact(size);
    toaster(&device);
    memset(&peer, 0, sizeof peer);
    peer.piece = 1000;
    peer.answers[0] = http("202 Accepted", "Retry-After: 3\r\n", assigning());
    peer.answers[1] = http("200 OK", "", assigned());
    peer.answers_len = 2;
    azure_dps_io io = io_of(&peer);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_run(&device.dps, UNIX_TIME, &device.signer, buffer, size, &io), AZURE_DPS_OK);
    CHECK_INT(azure_dps_get_assignment(&device.dps, buffer, size, &assignment), AZURE_DPS_OK);
    CHECK(size < 1200);
    size = AZURE_DPS_RECORD_SIZE(ID_LEN, returned);
    CHECK_INT(azure_dps_write_record(&device.dps, buffer, AZURE_DPS_ANSWER_SIZE(ID_LEN, returned),
                                     exact(size), size, &len),
              AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

static void sizes_of_a_session_over_mqtt(void)
{
    device device;
    size_t len = 0, size = AZURE_DPS_SAS_TOKEN_SIZE(SCOPE_LEN, ID_LEN);
    azure_dps_str topic;
    azure_dps_bytes body;
    toaster(&device);
    start(&device);
    CHECK_INT(step(&device, 0), AZURE_DPS_SIGN);
    CHECK_INT(azure_dps_write_message(&device.dps, exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(azure_dps_sign(&device.dps, &device.signer, exact(size), size), AZURE_DPS_OK);
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, (char *)exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, NULL, 0, &len), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK(len <= size && size - len <= 16);
    size = AZURE_DPS_MQTT_USER_NAME_SIZE(SCOPE_LEN, ID_LEN);
    CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, (char *)exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_MQTT_PUBLISH_SIZE(ID_LEN, PAYLOAD_LEN);
    CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, 0, exact(size), size, &topic, &body, NULL),
              AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
}

static void sizes_of_the_hub(void)
{
    azure_dps_key key;
    azure_dps_hub hub = {str(TOASTERS_HUB), str(TOASTER)};
    size_t len = 0, size = AZURE_DPS_HUB_USER_NAME_SIZE(HUB_LEN, ID_LEN);
    CHECK_INT(azure_dps_key_from_base64(&key, str(GROUP_KEY)), AZURE_DPS_OK);
    azure_dps_signer signer = azure_dps_key_signer(&key);
    CHECK_INT(azure_dps_hub_write_user_name(&hub, (char *)exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_HUB_PASSWORD_SIZE(HUB_LEN, ID_LEN);
    CHECK_INT(azure_dps_hub_write_password(&hub, &signer, 0, UINT64_MAX, (char *)exact(size), size, &len),
              AZURE_DPS_OK);
    size = AZURE_DPS_HUB_CONNECTION_STRING_SIZE(HUB_LEN, ID_LEN);
    CHECK_INT(azure_dps_hub_write_connection_string(&hub, &key, (char *)exact(size), size, &len),
              AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_HUB_X509_CONNECTION_STRING_SIZE(HUB_LEN, ID_LEN);
    CHECK_INT(azure_dps_hub_write_x509_connection_string(&hub, (char *)exact(size), size, &len),
              AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE(ID_LEN);
    CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, NULL, 0, (char *)exact(size), size, &len),
              AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_HOST_SIZE;
    CHECK_INT(azure_dps_hub_write_host(&hub, (char *)exact(size), size, &len, NULL), AZURE_DPS_OK);
    size = AZURE_DPS_KEY_BASE64_SIZE;
    CHECK_INT(azure_dps_key_write_base64(&key, (char *)exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    size = AZURE_DPS_TWIN_TOPIC_SIZE;
    CHECK_INT(azure_dps_twin_write_report_topic(UINT32_MAX, (char *)exact(size), size, &len), AZURE_DPS_OK);
    CHECK_INT(len + 1, size);
    azure_dps_key_wipe(&key);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(sizes_of_a_run_over_http);
    RUN(sizes_of_a_session_over_mqtt);
    RUN(sizes_of_the_hub);
    return finish();
}
