/* The assignment: required and optional members of an answer, and the buffer that it is read from. */
#include <stdio.h>
#include <string.h>

#include "support.h"

/* Runs over HTTP to this answer, and returns the result. */
static azure_dps_result after(device *device, const char *body, azure_dps_assignment *assignment)
{
    certified(device, TOASTER);
    return run_to(device, "200 OK", body, assignment);
}

static const char *with_hub(const char *hub)
{
    return replace(assigned(), "\"assignedHub\":\"" TOASTERS_HUB "\"", format("\"assignedHub\":\"%s\"", hub));
}

static bool is_within(azure_dps_str text, const void *memory, size_t size)
{
    return text.ptr >= (const char *)memory && text.ptr + text.len <= (const char *)memory + size;
}

static void the_tutorials_assignment(void)
{
    device device;
    azure_dps_assignment assignment;
    char text[64];
    size_t len = 0;
    CHECK_INT(after(&device, assigned(), &assignment), AZURE_DPS_OK);
    CHECK_STR(assignment.assigned_hub, TOASTERS_HUB);
    CHECK_STR(assignment.device_id, TOASTER);
    CHECK_STR(assignment.payload,
              "{\"property1\":\"value1\",\"property2\":{\"propertyA\":\"valueA\",\"property2-2\":1234}}");
    CHECK_INT(azure_dps_get_substatus(&assignment), AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT);
    CHECK(is_within(assignment.assigned_hub, device.buffer, sizeof device.buffer));
    CHECK(is_within(assignment.payload, device.buffer, sizeof device.buffer));
    CHECK(is_within(assignment.registration_state, device.buffer, sizeof device.buffer));
    CHECK(is_within(assignment.device_id, &device.dps, sizeof device.dps));
    CHECK_INT(azure_dps_str_copy(assignment.assigned_hub, text, sizeof text, &len), AZURE_DPS_OK);
    CHECK_TEXT(text, len, TOASTERS_HUB);
    azure_dps_deinit(&device.dps);
}

static void substatuses(void)
{
    static const struct {
        const char *json;
        uint8_t substatus;
    } rows[] = {
        {"\"initialAssignment\"", AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT},
        {"\"INITIALassignment\"", AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT},
        {"\"deviceDataMigrated\"", AZURE_DPS_SUBSTATUS_DEVICE_DATA_MIGRATED},
        {"\"deviceDataReset\"", AZURE_DPS_SUBSTATUS_DEVICE_DATA_RESET},
        {"\"reprovisionedToInitialAssignment\"", AZURE_DPS_SUBSTATUS_REPROVISIONED_TO_INITIAL},
        {"\"something\"", AZURE_DPS_SUBSTATUS_OTHER},
        {"null", AZURE_DPS_SUBSTATUS_NONE},
        {"7", AZURE_DPS_SUBSTATUS_NONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].json);
        CHECK_INT(after(&device, replace(assigned(), "\"initialAssignment\"", rows[i].json), &assignment),
                  AZURE_DPS_OK);
        CHECK_INT(azure_dps_get_substatus(&assignment), rows[i].substatus);
        azure_dps_deinit(&device.dps);
    }
    azure_dps_assignment assignment = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    CHECK_INT(azure_dps_get_substatus(NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK(azure_dps_get_substatus(&assignment) < 0);
    assignment.registration_state.len = 1;
    CHECK_INT(azure_dps_get_substatus(&assignment), AZURE_DPS_ERR_ARGUMENT);
    assignment.registration_state = exact_str("{}");
    CHECK_INT(azure_dps_get_substatus(&assignment), AZURE_DPS_SUBSTATUS_NONE);
}

static void payloads(void)
{
    static const struct {
        const char *json, *payload;
    } rows[] = {{"\"x\":0", NULL},
                {"\"payload\":null", NULL},
                {"\"payload\":{}", "{}"},
                {"\"payload\":7", "7"},
                {"\"payload\":\"\"", "\"\""}};
    const char *without = replace(assigned(), strstr(assigned(), ",\"payload\""), "}}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].json);
        const char *body = replace(without, "\"assignedHub\"", format("%s,\"assignedHub\"", rows[i].json));
        CHECK_INT(after(&device, body, &assignment), AZURE_DPS_OK);
        if (rows[i].payload == NULL) {
            CHECK(assignment.payload.ptr == NULL && assignment.payload.len == 0);
        } else {
            CHECK_STR(assignment.payload, rows[i].payload);
        }
        azure_dps_deinit(&device.dps);
    }
}

static void every_field(void)
{
    device device;
    azure_dps_assignment assignment;
    azure_dps_str value;
    char text[200];
    CHECK_INT(after(&device, vector("registration-state-every-field.json"), &assignment), AZURE_DPS_OK);
    CHECK_STR(assignment.device_id, "d");
    CHECK_STR(assignment.payload, "{}");
    CHECK_INT(azure_dps_json_get(assignment.registration_state, str("etag"), &value), AZURE_DPS_OK);
    CHECK_INT(azure_dps_json_write_text(value, text, sizeof text, NULL), AZURE_DPS_OK);
    CHECK_STR(str(text), "\"13003fea-0000-0300-0000-62d1d5e50000\"");
    CHECK_INT(azure_dps_json_get(assignment.registration_state, str("x509"), &value), AZURE_DPS_OK);
    CHECK_INT(azure_dps_json_get(value, str("certificateInfo"), &value), AZURE_DPS_OK);
    CHECK_INT(azure_dps_json_get(value, str("version"), &value), AZURE_DPS_OK);
    uint32_t version = 0;
    CHECK_INT(azure_dps_json_u32(value, &version), AZURE_DPS_OK);
    CHECK_INT(version, 3);
    azure_dps_deinit(&device.dps);
}

static void device_ids_have_no_escapes(void)
{
    static const struct {
        const char *json, *device_id;
    } rows[] = {
        {"T-7", "T-7"},     {"T\\u002b7", "T+7"},     {"T\\u002B7's(kitchen)!", "T+7's(kitchen)!"},
        {"a%2Fb", "a%2Fb"}, {"\\u0025\\u0064", "%d"}, {"a:b@c=d?e#f", "a:b@c=d?e#f"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].json);
        const char *body =
            replace(assigned(), "\"deviceId\":\"" TOASTER "\"", format("\"deviceId\":\"%s\"", rows[i].json));
        CHECK_INT(after(&device, body, &assignment), AZURE_DPS_OK);
        CHECK_STR(assignment.device_id, rows[i].device_id);
        azure_dps_deinit(&device.dps);
    }
}

/* Microsoft's own mock service names `localhost:8443`. */
static void a_hub_may_have_a_port_and_nothing_else(void)
{
    const char *longest = format("%s:65535", repeat("h", 253));
    const char *const good[] = {"localhost:8443", "hub.azure-devices.net:1", "127.0.0.1:8883", "h", longest};
    const char *const bad[] = {
        "",
        ":",
        ":8443",
        "hub:",
        "hub:0",
        "hub:00",
        "hub:08443",
        "hub:65536",
        "hub:4294967297",
        "hub:+1",
        "hub: 1",
        "hub :1",
        " hub:1",
        "hub:1:2",
        "hub::1",
        "hub:x",
        "[::1]",
        "https://hub",
        "hub/x",
        "hub;x509=true",
        "hub\\n",
        "hub\\u003a1",
        "h\xc3\xa4"
        "b",
        "hub_1",
        repeat("h", 254),
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        device device;
        azure_dps_assignment assignment;
        row(good[i]);
        CHECK_INT(after(&device, with_hub(good[i]), &assignment), AZURE_DPS_OK);
        CHECK_STR(assignment.assigned_hub, good[i]);
        azure_dps_deinit(&device.dps);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        device device;
        azure_dps_assignment assignment;
        row(bad[i]);
        CHECK_INT(after(&device, with_hub(bad[i]), &assignment), AZURE_DPS_ERR_MALFORMED);
        CHECK_INT(error_of(&device).fault, AZURE_DPS_FAULT_PEER);
        azure_dps_deinit(&device.dps);
    }
}

/* The lengths are equal. The hub or the device differs. */
static void the_result_is_read_from_the_bytes_that_were_checked(void)
{
    device device;
    azure_dps_assignment assignment;
    const char *others[] = {
        replace(assigned(), "toasters-hub-1098", "toasters-hub-1099"),
        replace(assigned(), "contoso-toasters", "toasters-contoso"),
        "",
        repeat("x", strlen(assigned())),
        replace(assigned(), ":", ": "),
    };
    CHECK_INT(after(&device, assigned(), &assignment), AZURE_DPS_OK);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        azure_dps_str body = exact_str(others[i]);
        row(others[i]);
        CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len, &assignment),
                  AZURE_DPS_ERR_WRONG_BUFFER);
    }
    /* Bytes after the answer are ignored. The client keeps the device ID that it checked. */
    azure_dps_str body = exact_str(format("%s ", assigned()));
    CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len, &assignment), AZURE_DPS_OK);
    body = exact_str(assigned());
    CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len, &assignment), AZURE_DPS_OK);
    CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len - 1, &assignment),
              AZURE_DPS_ERR_WRONG_BUFFER);
    body = exact_str(replace(assigned(), "\"deviceId\":\"breakroom499-", "\"deviceId\":\"breakroom498-"));
    CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len, &assignment), AZURE_DPS_OK);
    CHECK_STR(assignment.device_id, TOASTER);
    CHECK_INT(azure_dps_get_assignment(&device.dps, NULL, 0, &assignment), AZURE_DPS_ERR_WRONG_BUFFER);
    CHECK_INT(azure_dps_get_assignment(&device.dps, NULL, 1, &assignment), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_get_assignment(NULL, body.ptr, body.len, &assignment), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_get_assignment(&device.dps, body.ptr, body.len, NULL), AZURE_DPS_ERR_ARGUMENT);
    azure_dps_deinit(&device.dps);
}

static void needed_members_must_have_their_type(void)
{
    static const char *const odd[] = {"409", "-1.5e3", "true", "[]", "{}", "[{\"errorCode\":1}]"};
    static const char *const needed[] = {
        "\"status\":\"assigned\",\"registrationState\"",
        "\"assignedHub\":\"" TOASTERS_HUB "\"",
        "\"deviceId\":\"" TOASTER "\"",
    };
    static const char *const replaced[] = {"\"status\":%s,\"registrationState\"", "\"assignedHub\":%s",
                                           "\"deviceId\":%s"};
    static const char *const not_needed[] = {
        "\"substatus\":\"initialAssignment\"", "\"registrationId\":\"" TOASTER "\"",
        "\"createdDateTimeUtc\":\"2022-08-03T20:34:41.178Z\"", "\"operationId\":\"" OPERATION "\""};
    static const char *const names[] = {"substatus", "registrationId", "createdDateTimeUtc", "operationId"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        for (size_t j = 0; j < 3; j++) {
            device device;
            azure_dps_assignment assignment;
            const char *at = strstr(replaced[j], "%s");
            const char *value = format("%.*s%s%s", (int)(at - replaced[j]), replaced[j], odd[i], at + 2);
            row(value);
            CHECK_INT(after(&device, replace(assigned(), needed[j], value), &assignment),
                      AZURE_DPS_ERR_MALFORMED);
            azure_dps_deinit(&device.dps);
        }
        for (size_t j = 0; j < 4; j++) {
            device device;
            azure_dps_assignment assignment;
            const char *value = format("\"%s\":%s", names[j], odd[i]);
            row(value);
            CHECK_INT(after(&device, replace(assigned(), not_needed[j], value), &assignment), AZURE_DPS_OK);
            azure_dps_deinit(&device.dps);
        }
    }
}

/* The Rust tests have the same answers. */
static void answers_that_assign_nothing(void)
{
    static const struct {
        const char *status, *body;
        azure_dps_result result;
    } rows[] = {
        {"200 OK", "{\"status\":\"assigned\"}", AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "{\"status\":\"assigned\",\"registrationState\":7}", AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "{\"status\":\"assigned\",\"registrationState\":{\"status\":\"failed\"}}",
         AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "{\"status\":\"assigned\",\"status\":\"assigned\"}", AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "<html>Log in</html>", AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "[]", AZURE_DPS_ERR_MALFORMED},
        {"200 OK", "{\"status\":\"disabled\"}", AZURE_DPS_ERR_DISABLED},
        {"200 OK", "{\"operationId\":\"\",\"status\":\"blacklisted\"}", AZURE_DPS_ERR_DISABLED},
        {"200 OK", "{\"status\":\"failed\",\"registrationState\":{\"errorCode\":400208}}",
         AZURE_DPS_ERR_FAILED},
        {"202 A", "{\"status\":\"assigning\"}", AZURE_DPS_ERR_MALFORMED},
        {"202 A", "{\"status\":\"assigning\",\"operationId\":7}", AZURE_DPS_ERR_MALFORMED},
        {"302 Found", "", AZURE_DPS_ERR_REFUSED},
        {"407 Proxy", "", AZURE_DPS_ERR_REFUSED},
        {"413 Too Large", "<html>", AZURE_DPS_ERR_REFUSED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        device device;
        azure_dps_assignment assignment;
        row(rows[i].body);
        certified(&device, TOASTER);
        CHECK_INT(run_to(&device, rows[i].status, rows[i].body, &assignment), rows[i].result);
        azure_dps_deinit(&device.dps);
    }
    /* The answer is for another device. */
    device device;
    azure_dps_assignment assignment;
    CHECK_INT(
        after(&device, replace(assigned(), "\"registrationId\":\"", "\"registrationId\":\"x"), &assignment),
        AZURE_DPS_ERR_MALFORMED);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(the_tutorials_assignment);
    RUN(substatuses);
    RUN(payloads);
    RUN(every_field);
    RUN(device_ids_have_no_escapes);
    RUN(a_hub_may_have_a_port_and_nothing_else);
    RUN(the_result_is_read_from_the_bytes_that_were_checked);
    RUN(needed_members_must_have_their_type);
    RUN(answers_that_assign_nothing);
    return finish();
}
