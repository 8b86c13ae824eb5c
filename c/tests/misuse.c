/* What a C programmer gets wrong easily. It is refused before anything has changed, so that the right call still works. */
#include "support.h"

#include <string.h>

/* The request counts as sent if it was written. A call that cannot say where it is does not write it. */
static void a_publish_without_a_place_for_its_texts(void)
{
    device device;
    char buffer[512];
    azure_dps_str topic = {NULL, 0};
    azure_dps_bytes body = {NULL, 0};
    azure_dps_progress progress;
    certified(&device, TOASTER);
    begin(&device);
    CHECK_INT(step(&device, 0), AZURE_DPS_SEND);
    CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, 0, buffer, sizeof buffer, NULL, &body, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, 0, buffer, sizeof buffer, &topic, NULL, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_get_progress(&device.dps, &progress), 0);
    CHECK_INT(azure_dps_mqtt_write_publish(&device.dps, 0, buffer, sizeof buffer, &topic, &body, NULL), AZURE_DPS_OK);
    CHECK_STR(topic, "$dps/registrations/PUT/iotdps-register/?$rid=1");
    /* News that has no place is kept. */
    CHECK_INT(azure_dps_get_progress(&device.dps, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_get_progress(&device.dps, &progress), 1);
    CHECK_INT(progress.what, AZURE_DPS_PROGRESS_REGISTERING);
    azure_dps_deinit(&device.dps);
}

/* The copy of a text that lies in the buffer itself, such as a hub in the buffer of HTTP. */
static void a_copy_onto_itself(void)
{
    char buffer[] = "hub.example/rest";
    const azure_dps_str hub = {buffer, 11}, rest = {buffer + 12, 4};
    size_t len = 77;
    CHECK_INT(azure_dps_str_copy(hub, buffer, sizeof buffer, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_str_copy(hub, buffer + 10, sizeof buffer - 10, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_str_copy(rest, buffer, sizeof buffer, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(len, 77);
    CHECK_BYTES(buffer, "hub.example/rest", sizeof buffer);
    /* Side by side is no overlap. */
    CHECK_INT(azure_dps_str_copy(rest, buffer, 12, &len), AZURE_DPS_OK);
    CHECK_BYTES(buffer, "rest\0xample/rest", sizeof buffer);
}

/* `(size_t)read(…)` after an error, and other lengths that no read into azure_dps_http_space() returns: what stands in the
 * buffer is not taken for an answer. */
static void more_bytes_than_there_was_space_for(void)
{
    device device;
    uint8_t *space = NULL;
    size_t space_len = 0;
    bool keep_alive = true;
    certified(&device, TOASTER);
    const size_t size = sizeof device.buffer, lengths[] = {SIZE_MAX, SIZE_MAX - 109, size + 1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        begin(&device);
        request(&device, 0);
        memset(device.buffer, 'x', size);
        CHECK_INT(azure_dps_http_space(&device.dps, 0, device.buffer, size, &space, &space_len), AZURE_DPS_OK);
        char *old = http("200 OK", "", assigned());
        memcpy(space, old, strlen(old));
        /* The head was read. The body in the buffer is from elsewhere. */
        CHECK_INT(azure_dps_http_received(&device.dps, 0, device.buffer, size, 30, NULL), 0);
        CHECK_INT(azure_dps_http_space(&device.dps, 0, device.buffer, size, &space, &space_len), AZURE_DPS_OK);
        CHECK_INT(azure_dps_http_received(&device.dps, 0, device.buffer, size, i == 3 ? space_len + 1 : lengths[i],
                                          &keep_alive),
                  AZURE_DPS_ERR_STREAM);
        CHECK(!keep_alive);
        CHECK(wait_of(&device, 0) > 0);
        azure_dps_deinit(&device.dps);
    }
}

/* A wait fits an int, and a clock that has gone on by it is not taken for one that was put back. */
static void the_longest_times(void)
{
    device device;
    azure_dps_reprovisioning life;
    azure_dps_reprovisioning_policy policy;
    uint32_t now = 0, wait = 0;
    int waits = 0;
    certified(&device, TOASTER);
    device.config.timeout_ms = UINT32_MAX;
    device.config.request_timeout_ms = UINT32_MAX;
    begin(&device);
    request(&device, 0);
    CHECK(azure_dps_request_time_left(&device.dps, 0) <= INT32_MAX);
    CHECK_INT(azure_dps_on_error(&device.dps, 0, AZURE_DPS_ERR_UNTRUSTED), AZURE_DPS_OK);

    memset(&policy, 0, sizeof policy);
    policy.first_pause_ms = UINT32_MAX;
    policy.longest_pause_ms = UINT32_MAX;
    CHECK_INT(azure_dps_reprovisioning_init(&life, &device.config, &policy, NULL, 0), AZURE_DPS_OK);
    CHECK_INT(azure_dps_reprovisioning_next(&life, now, &wait, NULL), AZURE_DPS_NEXT_REGISTER);
    CHECK_INT(azure_dps_reprovisioning_on_failed(&life, now, &device.dps), AZURE_DPS_OK);
    while (azure_dps_reprovisioning_next(&life, now, &wait, NULL) == AZURE_DPS_NEXT_WAIT && waits < 10) {
        CHECK(wait <= INT32_MAX);
        now += wait;
        waits++;
    }
    CHECK(waits >= 1 && waits < 10);
    CHECK_INT(azure_dps_reprovisioning_next(&life, now, &wait, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(a_publish_without_a_place_for_its_texts);
    RUN(a_copy_onto_itself);
    RUN(more_bytes_than_there_was_space_for);
    RUN(the_longest_times);
    return finish();
}
