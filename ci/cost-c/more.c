#include "more.h"

#define ID_SCOPE "0ne00002193"
#define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"

static int32_t connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    (void)ctx, (void)host, (void)port, (void)timeout_ms;
    return 0;
}

static int32_t read(void *ctx, uint8_t *buffer, size_t size)
{
    (void)ctx, (void)buffer, (void)size;
    return 0;
}

static int32_t write(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx, (void)bytes;
    return (int32_t)len;
}

static void close(void *ctx)
{
    (void)ctx;
}

static uint32_t clock_ms(void *ctx)
{
    (void)ctx;
    return 0;
}

static void delay_ms(void *ctx, uint32_t ms)
{
    (void)ctx, (void)ms;
}

bool run_http(struct device *device)
{
    static const azure_dps_io io = {NULL, connect, read, write, close, clock_ms, delay_ms, NULL};
    azure_dps_signer signer = azure_dps_key_signer(&device->key);
    return azure_dps_run(&device->dps, 1700000000u, &signer, device->buffer, sizeof device->buffer, &io) !=
           AZURE_DPS_OK;
}

bool http(struct device *device)
{
    uint8_t *space;
    size_t space_len;
    bool keep_alive;
    return azure_dps_http_write_request(&device->dps, 0, device->buffer, sizeof device->buffer, NULL) !=
               AZURE_DPS_OK ||
           azure_dps_http_space(&device->dps, 0, device->buffer, sizeof device->buffer, &space, &space_len) !=
               AZURE_DPS_OK ||
           azure_dps_http_received(&device->dps, 0, device->buffer, sizeof device->buffer, 0, &keep_alive) !=
               0;
}

bool set_endpoint(struct device *device)
{
    return azure_dps_set_endpoint(&device->dps, azure_dps_str_of("https://dps.example.com:8443")) !=
           AZURE_DPS_OK;
}

bool get_error(struct device *device)
{
    azure_dps_error error;
    return azure_dps_get_error(&device->dps, &error) != AZURE_DPS_OK;
}

bool write_error(struct device *device)
{
    return azure_dps_write_error(&device->dps, device->buffer, sizeof device->buffer, NULL) != AZURE_DPS_OK;
}

bool write_service_message(struct device *device)
{
    return azure_dps_write_service_message(&device->dps, assigned, (size_t)(assigned_end - assigned),
                                           device->buffer, sizeof device->buffer, NULL) != AZURE_DPS_OK;
}

bool hub(struct device *device)
{
    azure_dps_hub hub = {azure_dps_str_of("contoso-toasters-hub-1098.azure-devices.net"),
                         azure_dps_str_of(REGISTRATION_ID)};
    azure_dps_signer signer = azure_dps_key_signer(&device->key);
    uint16_t port = AZURE_DPS_HUB_MQTT_PORT;
    return azure_dps_hub_write_host(&hub, device->buffer, sizeof device->buffer, NULL, &port) ==
               AZURE_DPS_OK &&
           azure_dps_hub_write_user_name(&hub, device->buffer, sizeof device->buffer, NULL) == AZURE_DPS_OK &&
           /* The key is already wiped. */
           azure_dps_hub_write_password(&hub, &signer, AZURE_DPS_PRIMARY_KEY, 1700000000u, device->buffer,
                                        sizeof device->buffer, NULL) != AZURE_DPS_OK;
}

bool twin(struct device *device)
{
    static const char body[] =
        "{\"desired\":{\"state\":\"ready\",\"darknessSetting\":\"medium\",\"$version\":1},"
        "\"reported\":{\"$version\":1}}";
    azure_dps_twin_message message;
    azure_dps_str value;
    return azure_dps_twin_write_get_topic(1, device->buffer, sizeof device->buffer, NULL) == AZURE_DPS_OK &&
           azure_dps_twin_read(azure_dps_str_of("$iothub/twin/res/200/?$rid=1"), body, sizeof body - 1,
                               &message) == AZURE_DPS_OK &&
           message.what == AZURE_DPS_TWIN_WHOLE &&
           azure_dps_json_get(message.desired, azure_dps_str_of("darknessSetting"), &value) == AZURE_DPS_OK &&
           azure_dps_json_write_text(value, device->buffer, sizeof device->buffer, NULL) == AZURE_DPS_OK;
}

static azure_dps_config config(void)
{
    azure_dps_config config = {0};
    config.id_scope = azure_dps_str_of(ID_SCOPE);
    config.registration_id = azure_dps_str_of(REGISTRATION_ID);
    return config;
}

bool record(struct device *device)
{
    azure_dps_config whose = config();
    azure_dps_assignment assignment;
    int32_t key;
    size_t len;
    /* The client is already deinitialized, and the buffer has no record. */
    return azure_dps_write_record(&device->dps, assigned, (size_t)(assigned_end - assigned), device->buffer,
                                  sizeof device->buffer, &len) != AZURE_DPS_OK &&
           azure_dps_record_len((const uint8_t *)device->buffer) == 0 &&
           azure_dps_record_read(&whose, device->buffer, sizeof device->buffer, &assignment, &key) !=
               AZURE_DPS_OK;
}

bool reprovisioning(struct device *device)
{
    azure_dps_config whose = config();
    azure_dps_reprovisioning life;
    uint32_t wait_ms;
    int32_t key;
    return record(device) &&
           azure_dps_reprovisioning_init(&life, &whose, NULL, device->buffer, sizeof device->buffer) ==
               AZURE_DPS_OK &&
           azure_dps_reprovisioning_next(&life, 0, &wait_ms, &key) == AZURE_DPS_NEXT_REGISTER &&
           azure_dps_reprovisioning_on_assigned(&life, 0, &device->dps, assigned,
                                                (size_t)(assigned_end - assigned)) != 1 &&
           azure_dps_reprovisioning_on_failed(&life, 0, &device->dps) != AZURE_DPS_OK &&
           azure_dps_reprovisioning_on_hub(&life, 0, AZURE_DPS_HUB_ACCEPTED) == AZURE_DPS_OK;
}
