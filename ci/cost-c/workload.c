#include "workload.h"

#define GROUP_KEY "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
#define DEVICE_KEY "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs="
#define ID_SCOPE "0ne00002193"
#define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
#define PAYLOAD "{\"MyDeviceFirmwareVersion\":\"12.0.2.5\",\"MyDeviceProvisioningVersion\":\"1.0.0.0\"}"
#define UNIX_TIME 1700000000u

/* A CONNECT needs user name and password at the same time. The user name gets this part of the buffer. */
#define USER_NAME_SIZE 160

__attribute__((noinline)) bool a(char *text)
{
    azure_dps_key key;
    bool right = azure_dps_key_derive(&key, azure_dps_str_of(GROUP_KEY), azure_dps_str_of(REGISTRATION_ID)) ==
                     AZURE_DPS_OK &&
                 azure_dps_key_write_base64(&key, text, 45, NULL) == AZURE_DPS_OK;
    azure_dps_key_wipe(&key);
    return right;
}

__attribute__((noinline)) bool read_key(struct device *device)
{
    return azure_dps_key_from_base64(&device->key, azure_dps_str_of(DEVICE_KEY)) == AZURE_DPS_OK;
}

__attribute__((noinline)) bool init(struct device *device)
{
    azure_dps_config config = {0};
    config.id_scope = azure_dps_str_of(ID_SCOPE);
    config.registration_id = azure_dps_str_of(REGISTRATION_ID);
    config.payload = azure_dps_str_of(PAYLOAD);
    return azure_dps_init(&device->dps, &config) == AZURE_DPS_OK;
}

__attribute__((noinline)) bool b(struct device *device)
{
    azure_dps_signer signer = azure_dps_key_signer(&device->key);
    uint32_t wait_ms;
    return azure_dps_start(&device->dps, 0, UNIX_TIME) == AZURE_DPS_OK &&
           azure_dps_step(&device->dps, 0, &wait_ms) == AZURE_DPS_SIGN &&
           azure_dps_sign(&device->dps, &signer, device->buffer, sizeof device->buffer) == AZURE_DPS_OK &&
           azure_dps_step(&device->dps, 0, &wait_ms) == AZURE_DPS_SEND &&
           azure_dps_mqtt_write_password(&device->dps, device->buffer + USER_NAME_SIZE,
                                         sizeof device->buffer - USER_NAME_SIZE, NULL) == AZURE_DPS_OK;
}

__attribute__((noinline)) bool c(struct device *device)
{
    return azure_dps_mqtt_write_user_name(&device->dps, device->buffer, USER_NAME_SIZE, NULL) ==
               AZURE_DPS_OK &&
           request(device, 0);
}

bool request(struct device *device, uint32_t now_ms)
{
    azure_dps_str topic;
    azure_dps_bytes body;
    return azure_dps_mqtt_write_publish(&device->dps, now_ms, device->buffer, sizeof device->buffer, &topic,
                                        &body, NULL) == AZURE_DPS_OK;
}

__attribute__((noinline)) bool d(struct device *device)
{
    azure_dps_str topic = azure_dps_str_of("$dps/registrations/res/202/?$rid=1&retry-after=3");
    size_t len = (size_t)(assigning_end - assigning);
    uint32_t wait_ms;
    return azure_dps_mqtt_on_message(&device->dps, 0, topic, assigning, len) == 1 &&
           azure_dps_step(&device->dps, 3000, &wait_ms) == AZURE_DPS_SEND && request(device, 3000);
}

__attribute__((noinline)) bool e(struct device *device, const char *body, size_t body_len,
                                 azure_dps_assignment *assignment)
{
    azure_dps_str topic = azure_dps_str_of("$dps/registrations/res/200/?$rid=2");
    return azure_dps_mqtt_on_message(&device->dps, 3000, topic, body, body_len) == 1 &&
           azure_dps_get_assignment(&device->dps, body, body_len, assignment) == AZURE_DPS_OK &&
           assignment->payload.ptr != NULL;
}

__attribute__((noinline)) bool run(struct device *device)
{
    char text[45];
    azure_dps_assignment assignment;
    bool right = a(text) && read_key(device) && init(device) && b(device) && c(device) && d(device) &&
                 e(device, assigned, (size_t)(assigned_end - assigned), &assignment);
    azure_dps_deinit(&device->dps);
    azure_dps_key_wipe(&device->key);
    return right;
}
