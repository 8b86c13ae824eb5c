/* Host, user name, password and topics for the hub, compared with vectors from another implementation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static azure_dps_hub hub_of(const char *assigned_hub, const char *device_id)
{
    azure_dps_hub hub = {exact_str(assigned_hub), exact_str(device_id)};
    return hub;
}

static const char *user_name(const azure_dps_hub *hub)
{
    char text[600];
    size_t len = 0;
    CHECK_INT(azure_dps_hub_write_user_name(hub, text, sizeof text, &len), AZURE_DPS_OK);
    CHECK_INT(text[len], 0);
    return format("%s", text);
}

static void passwords_equal_those_of_another_implementation(void)
{
    const char *file = vector("hub-tokens.tsv");
    const char *columns[6];
    int count = 0;
    while (next_row(&file, columns, 6) == 6) {
        azure_dps_key keys[2];
        azure_dps_hub hub = hub_of(columns[1], columns[2]);
        const char *expected =
            format("SharedAccessSignature sr=%s&sig=%s&se=%s", columns[3], columns[5], columns[4]);
        uint64_t expiry = strtoull(columns[4], NULL, 10);
        char text[600], message[600];
        uint8_t signature[32];
        size_t len = 0;
        row(columns[2]);
        CHECK_INT(azure_dps_key_from_base64(&keys[0], exact_str(columns[0])), AZURE_DPS_OK);
        CHECK_INT(azure_dps_key_from_base64(&keys[1], exact_str(columns[0])), AZURE_DPS_OK);
        azure_dps_signer signer = azure_dps_two_keys_signer(keys);
        for (int32_t which = AZURE_DPS_PRIMARY_KEY; which <= AZURE_DPS_SECONDARY_KEY; which++) {
            CHECK_INT(azure_dps_hub_write_password(&hub, &signer, which, expiry, text, sizeof text, &len),
                      AZURE_DPS_OK);
            CHECK_TEXT(text, len, expected);
            CHECK_INT(text[len], 0);
        }
        /* With the message and its signature. */
        CHECK_INT(azure_dps_hub_write_message(&hub, expiry, message, sizeof message, &len), AZURE_DPS_OK);
        CHECK_TEXT(message, len, format("%s\n%s", columns[3], columns[4]));
        CHECK_INT(azure_dps_key_sign(&keys[0], (const uint8_t *)message, len, signature), 0);
        CHECK_INT(azure_dps_hub_write_signed_password(&hub, signature, expiry, text, sizeof text, &len),
                  AZURE_DPS_OK);
        CHECK_TEXT(text, len, expected);
        /* The token is for the hub in the user name. */
        uint16_t port = 0;
        CHECK_INT(azure_dps_hub_write_host(&hub, text, sizeof text, NULL, &port), AZURE_DPS_OK);
        CHECK_STR(str(user_name(&hub)), format("%s/%s/?api-version=2021-04-12", text, columns[2]));
        CHECK(strncmp(columns[3], format("%s%%2Fdevices%%2F", text), strlen(text) + 13) == 0);
        azure_dps_key_wipe(&keys[0]);
        azure_dps_key_wipe(&keys[1]);
        count++;
    }
    CHECK_INT(count, 8);
}

static void a_hub_may_have_a_port(void)
{
    const char *longest = repeat("h", 253);
    const struct {
        const char *assigned_hub, *host;
        uint16_t port;
    } rows[] = {
        {"localhost:8443", "localhost", 8443},
        {"hub.azure-devices.net:1", "hub.azure-devices.net", 1},
        {"hub.azure-devices.net:65535", "hub.azure-devices.net", 65535},
        {"127.0.0.1:8883", "127.0.0.1", 8883},
        {"hub.azure-devices.net", "hub.azure-devices.net", 7},
        {format("%s:65535", longest), longest, 65535},
    };
    azure_dps_key key;
    CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_hub hub = hub_of(rows[i].assigned_hub, TOASTER);
        char text[1000];
        size_t len = 0;
        uint16_t port = 7;
        row(rows[i].assigned_hub);
        CHECK_INT(azure_dps_hub_write_host(&hub, text, sizeof text, &len, &port), AZURE_DPS_OK);
        CHECK_TEXT(text, len, rows[i].host);
        CHECK_INT(port, rows[i].port);
        CHECK_INT(azure_dps_hub_write_host(&hub, text, sizeof text, &len, NULL), AZURE_DPS_OK);
        CHECK_STR(str(user_name(&hub)), format("%s/" TOASTER "/?api-version=2021-04-12", rows[i].host));
        CHECK_INT(azure_dps_hub_write_x509_connection_string(&hub, text, sizeof text, &len), AZURE_DPS_OK);
        CHECK_TEXT(text, len, format("HostName=%s;DeviceId=" TOASTER ";x509=true", rows[i].assigned_hub));
        CHECK_INT(azure_dps_hub_write_connection_string(&hub, &key, text, sizeof text, &len), AZURE_DPS_OK);
        CHECK_TEXT(
            text, len,
            format("HostName=%s;DeviceId=" TOASTER ";SharedAccessKey=" TOASTER_KEY, rows[i].assigned_hub));
    }
    azure_dps_key_wipe(&key);
}

static void stored_values_are_checked(void)
{
    const char *const hubs[] = {
        "",
        ":",
        ":8443",
        "hub:",
        "hub:0",
        "hub:00",
        "hub:08443",
        "hub:65536",
        "hub:99999",
        "hub:100000",
        "hub:4294967297",
        "hub:+1",
        "hub:-1",
        "hub: 1",
        "hub:1 ",
        "hub :1",
        " hub:1",
        "hub:1:2",
        "hub::1",
        "hub:x",
        "hub:1x",
        "hub:0x1",
        "hub:\xd9\xa1",
        "[::1]",
        "[::1]:8443",
        "::1",
        "https://hub",
        "hub/x",
        "hub:1/x",
        "hub;x509=true",
        "hub:1;x509=true",
        "hub\\n",
        "h\xc3\xa4"
        "b",
        "hub_1",
        "hub\n",
        repeat("h", 254),
    };
    const char *const device_ids[] = {"",          "a;b", "a/b",      "a b", "a\"b",
                                      "a\\u002bb", "\\",  "\xc3\xa4", "a\n", repeat("d", 129)};
    char text[400];
    for (size_t i = 0; i < sizeof hubs / sizeof *hubs; i++) {
        azure_dps_hub hub = hub_of(hubs[i], TOASTER);
        row(hubs[i]);
        CHECK_INT(azure_dps_hub_write_user_name(&hub, text, sizeof text, NULL), AZURE_DPS_ERR_INVALID_HUB);
    }
    for (size_t i = 0; i < sizeof device_ids / sizeof *device_ids; i++) {
        azure_dps_hub hub = hub_of(TOASTERS_HUB, device_ids[i]);
        row(device_ids[i]);
        CHECK_INT(azure_dps_hub_write_user_name(&hub, text, sizeof text, NULL), AZURE_DPS_ERR_INVALID_HUB);
    }
    azure_dps_hub hub = hub_of(repeat("h", 253), repeat("d", 128));
    CHECK_INT(azure_dps_hub_write_user_name(&hub, text, sizeof text, NULL), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    hub = hub_of("x", "y");
    CHECK_STR(str(user_name(&hub)), "x/y/?api-version=2021-04-12");
}

static void device_ids_may_need_escapes(void)
{
    static const struct {
        const char *device_id, *encoded;
    } rows[] = {
        {"T-7", "T-7"}, {"T+7's(kitchen)!", "T%2B7%27s%28kitchen%29%21"}, {"a%2Fb", "a%252Fb"},
        {"%d", "%25d"}, {"a:b@c=d?e#f", "a%3Ab%40c%3Dd%3Fe%23f"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_hub hub = hub_of(TOASTERS_HUB, rows[i].device_id);
        char text[400];
        size_t len = 0;
        row(rows[i].device_id);
        CHECK_INT(azure_dps_hub_write_message(&hub, UNIX_TIME, text, sizeof text, &len), AZURE_DPS_OK);
        CHECK_TEXT(text, len, format(TOASTERS_HUB "%%2Fdevices%%2F%s\n1700000000", rows[i].encoded));
        CHECK_STR(str(user_name(&hub)),
                  format(TOASTERS_HUB "/%s/?api-version=2021-04-12", rows[i].device_id));
    }
}

static void telemetry_has_the_devices_topic_and_properties(void)
{
#define START "devices/" TOASTER "/messages/events/"
    static const struct {
        const char *properties[3][2];
        size_t count;
        const char *topic;
    } rows[] = {
        {{{NULL, NULL}}, 0, START},
        {{{"level", "storage"}}, 1, START "level=storage"},
        {{{"$.mid", "1"}, {"$.ct", "application/json"}, {"$.ce", "utf-8"}},
         3,
         START "%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8"},
        {{{"a&b=c", "1 + 1"}, {"", ""}}, 2, START "a%26b%3Dc=1%20%2B%201&="},
        {{{"Gr\xc3\xb6\xc3\x9f"
           "e",
           "\xc2\xbd/#"}},
         1,
         START "Gr%C3%B6%C3%9Fe=%C2%BD%2F%23"},
    };
    azure_dps_hub hub = hub_of(TOASTERS_HUB, TOASTER);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_property *properties =
            (azure_dps_property *)exact(sizeof(azure_dps_property) * (rows[i].count + 1));
        for (size_t j = 0; j < rows[i].count; j++) {
            properties[j].name = exact_str(rows[i].properties[j][0]);
            properties[j].value = exact_str(rows[i].properties[j][1]);
        }
        size_t topic_len = strlen(rows[i].topic), len = 0;
        row(rows[i].topic);
        for (size_t size = 0; size <= topic_len; size += size + 20 < topic_len ? 20 : 1) {
            CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, properties, rows[i].count,
                                                          (char *)exact(size + 1), size, &len),
                      AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK_INT(len, topic_len + 1);
        }
        char *text = (char *)exact(topic_len + 1);
        CHECK_INT(
            azure_dps_hub_write_telemetry_topic(&hub, properties, rows[i].count, text, topic_len + 1, &len),
            AZURE_DPS_OK);
        CHECK_TEXT(text, len, rows[i].topic);
    }
    char text[200];
    azure_dps_property wrong = {exact_str("\xff"), exact_str("")};
    CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, NULL, 0, text, sizeof text, NULL), AZURE_DPS_OK);
    CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, NULL, 1, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, &wrong, 1, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    hub = hub_of(TOASTERS_HUB, "caf+'x");
    CHECK_INT(azure_dps_hub_write_telemetry_topic(&hub, NULL, 0, text, sizeof text, NULL), AZURE_DPS_OK);
    CHECK_STR(str(text), "devices/caf+'x/messages/events/");
}

/* Each text, in buffers of many sizes up to the required one. */
static azure_dps_result write(int which, const azure_dps_hub *hub, azure_dps_key *key, char *buffer,
                              size_t size, size_t *len)
{
    uint8_t ones[32];
    azure_dps_signer signer = azure_dps_key_signer(key);
    memset(ones, 0xff, sizeof ones);
    switch (which) {
    case 0: return azure_dps_hub_write_user_name(hub, buffer, size, len);
    case 1: return azure_dps_hub_write_connection_string(hub, key, buffer, size, len);
    case 2: return azure_dps_hub_write_x509_connection_string(hub, buffer, size, len);
    case 3:
        return azure_dps_hub_write_password(hub, &signer, AZURE_DPS_PRIMARY_KEY, UNIX_TIME, buffer, size,
                                            len);
    case 4: return azure_dps_hub_write_message(hub, UNIX_TIME, buffer, size, len);
    case 5: return azure_dps_hub_write_host(hub, buffer, size, len, NULL);
    default: return azure_dps_hub_write_signed_password(hub, ones, UNIX_TIME, buffer, size, len);
    }
}

static void small_buffer_errors_name_the_needed_size(void)
{
    azure_dps_hub hub = hub_of(TOASTERS_HUB, TOASTER);
    azure_dps_key key;
    CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
    for (int which = 0; which < 7; which++) {
        size_t needed = 0, len = 0;
        row(format("%d", which));
        CHECK_INT(write(which, &hub, &key, NULL, 0, &needed), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        for (size_t size = 1; size < needed; size += size + 9 < needed ? 9 : 1) {
            CHECK_INT(write(which, &hub, &key, (char *)exact(size), size, &len),
                      AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK(len <= needed && len > size);
        }
        char *buffer = (char *)exact(needed);
        CHECK_INT(write(which, &hub, &key, buffer, needed, &len), AZURE_DPS_OK);
        CHECK(len + (which != 4) <= needed);
        CHECK(which == 4 || buffer[len] == '\0');
        CHECK(which == 3 || len + (which != 4) == needed);
        CHECK_INT(write(which, &hub, &key, (char *)exact(needed), needed, NULL), AZURE_DPS_OK);
        /* Arguments. */
        CHECK_INT(write(which, NULL, &key, buffer, needed, &len), AZURE_DPS_ERR_ARGUMENT);
        CHECK_INT(write(which, &hub, &key, NULL, needed, &len), AZURE_DPS_ERR_ARGUMENT);
        azure_dps_hub wrong = hub;
        wrong.assigned_hub.ptr = NULL;
        CHECK_INT(write(which, &wrong, &key, buffer, needed, &len), AZURE_DPS_ERR_ARGUMENT);
        wrong = hub;
        wrong.device_id = exact_str("\xff");
        CHECK_INT(write(which, &wrong, &key, buffer, needed, &len), AZURE_DPS_ERR_ARGUMENT);
        wrong = hub_of("", TOASTER);
        CHECK_INT(write(which, &wrong, &key, buffer, needed, &len), AZURE_DPS_ERR_INVALID_HUB);
    }
    azure_dps_key_wipe(&key);
}

static int32_t broken(void *ctx, const uint8_t *message, size_t len, uint8_t *signature)
{
    (void)ctx;
    (void)message;
    (void)len;
    (void)signature;
    return -5;
}

static void signers_that_do_not_sign(void)
{
    azure_dps_hub hub = hub_of(TOASTERS_HUB, TOASTER);
    azure_dps_key key, zero;
    azure_dps_signer signer = {NULL, broken, NULL, NULL}, none = {NULL, NULL, NULL, NULL};
    char text[400];
    uint8_t signature[32] = {0};
    memset(&zero, 0, sizeof zero);
    CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
    azure_dps_signer one = azure_dps_key_signer(&key);
    CHECK_INT(azure_dps_hub_write_password(&hub, &signer, 0, UNIX_TIME, text, sizeof text, NULL),
              AZURE_DPS_ERR_SIGNER);
    CHECK_INT(azure_dps_hub_write_password(&hub, &one, 1, UNIX_TIME, text, sizeof text, NULL),
              AZURE_DPS_ERR_SIGNER);
    CHECK_INT(azure_dps_hub_write_password(&hub, &one, 2, UNIX_TIME, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_hub_write_password(&hub, NULL, 0, UNIX_TIME, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_hub_write_password(&hub, &none, 0, UNIX_TIME, text, sizeof text, NULL),
              AZURE_DPS_ERR_SIGNER);
    CHECK_INT(azure_dps_hub_write_connection_string(&hub, NULL, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_hub_write_connection_string(&hub, &zero, text, sizeof text, NULL),
              AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_hub_write_signed_password(&hub, NULL, 1, text, sizeof text, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_hub_write_signed_password(&hub, signature, UINT64_MAX, text, sizeof text, NULL),
              AZURE_DPS_OK);
    CHECK(ends_with(text, "&se=18446744073709551615"));
    azure_dps_key_wipe(&key);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(passwords_equal_those_of_another_implementation);
    RUN(a_hub_may_have_a_port);
    RUN(stored_values_are_checked);
    RUN(device_ids_may_need_escapes);
    RUN(telemetry_has_the_devices_topic_and_properties);
    RUN(small_buffer_errors_name_the_needed_size);
    RUN(signers_that_do_not_sign);
    return finish();
}
