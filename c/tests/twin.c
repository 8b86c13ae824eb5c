/* The twin: known and unknown messages of a hub, and messages that are too large for the client. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define ANSWER "$iothub/twin/res/200/?$rid=7"
#define CHANGE "$iothub/twin/PATCH/properties/desired/"

static azure_dps_result read_twin(const char *topic, const char *body, azure_dps_twin_message *message)
{
    azure_dps_str bytes = exact_str(body);
    memset(message, 0x5a, sizeof *message);
    return azure_dps_twin_read(exact_str(topic), bytes.ptr, bytes.len, message);
}

static void messages_that_hubs_send(void)
{
    const char *file = vector("twin-messages.tsv");
    const char *columns[3];
    int count = 0;
    while (next_row(&file, columns, 3) == 3) {
        azure_dps_twin_message message;
        const char *seen = "";
        row(columns[0]);
        CHECK_INT(read_twin(columns[0], columns[1], &message), AZURE_DPS_OK);
        unsigned long id = message.request_id;
        unsigned long desired = (unsigned long)message.desired_version,
                      reported = (unsigned long)message.reported_version;
        switch (message.what) {
        case AZURE_DPS_TWIN_OTHER: seen = "other"; break;
        case AZURE_DPS_TWIN_WHOLE: seen = format("twin %lu %lu %lu", id, desired, reported); break;
        case AZURE_DPS_TWIN_CHANGE: seen = format("change %lu", desired); break;
        case AZURE_DPS_TWIN_REPORTED:
            seen = reported == 0 ? format("reported %lu none", id) : format("reported %lu %lu", id, reported);
            break;
        default: seen = format("refused %lu %d", id, message.status); break;
        }
        CHECK_STR(str(seen), columns[2]);
        count++;
    }
    CHECK_INT(count, 13);
}

static void topics_are_the_documented_ones(void)
{
    static const struct {
        uint32_t request_id;
        const char *get, *report;
    } rows[] = {
        {0, "$iothub/twin/GET/?$rid=0", "$iothub/twin/PATCH/properties/reported/?$rid=0"},
        {65536, "$iothub/twin/GET/?$rid=65536", "$iothub/twin/PATCH/properties/reported/?$rid=65536"},
        {UINT32_MAX, "$iothub/twin/GET/?$rid=4294967295",
         "$iothub/twin/PATCH/properties/reported/?$rid=4294967295"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t get_len = strlen(rows[i].get), report_len = strlen(rows[i].report), len = 0;
        char *get = (char *)exact(get_len + 1), *report = (char *)exact(report_len + 1);
        uint32_t id = rows[i].request_id;
        row(rows[i].get);
        CHECK_INT(azure_dps_twin_write_get_topic(id, get, get_len + 1, &len), AZURE_DPS_OK);
        CHECK_TEXT(get, len, rows[i].get);
        CHECK_INT(azure_dps_twin_write_report_topic(id, report, report_len + 1, &len), AZURE_DPS_OK);
        CHECK_TEXT(report, len, rows[i].report);
        for (size_t size = 0; size <= report_len; size++) {
            azure_dps_result expected = size <= get_len ? AZURE_DPS_ERR_BUFFER_TOO_SMALL : AZURE_DPS_OK;
            CHECK_INT(azure_dps_twin_write_get_topic(id, (char *)exact(size + 1), size, &len), expected);
            CHECK_INT(len, size <= get_len ? get_len + 1 : get_len);
            CHECK_INT(azure_dps_twin_write_report_topic(id, (char *)exact(size + 1), size, &len),
                      AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK_INT(len, report_len + 1);
        }
    }
    CHECK_INT(azure_dps_twin_write_get_topic(1, NULL, 9, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_write_report_topic(1, NULL, 9, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_STR(str(AZURE_DPS_TWIN_ANSWER_FILTER), "$iothub/twin/res/#");
    CHECK_STR(str(AZURE_DPS_TWIN_CHANGE_FILTER), CHANGE "#");
}

static void the_two_parts_of_a_twin(void)
{
    azure_dps_twin_message message;
    azure_dps_str value;
    CHECK_INT(
        read_twin(
            ANSWER,
            " {\"reported\":{\"$version\":3},\"tags\":[{}],\"desired\":{\"a\":{\"b\":[1,{\"c\":\"d\"}]},"
            "\"e\":null,\"$version\":2},\"x\":0} ",
            &message),
        AZURE_DPS_OK);
    CHECK_INT(message.what, AZURE_DPS_TWIN_WHOLE);
    CHECK_INT(message.request_id, 7);
    CHECK_INT(message.desired_version, 2);
    CHECK_INT(message.reported_version, 3);
    CHECK_STR(message.desired, "{\"a\":{\"b\":[1,{\"c\":\"d\"}]},\"e\":null,\"$version\":2}");
    CHECK_STR(message.reported, "{\"$version\":3}");
    CHECK_INT(azure_dps_json_get(message.desired, str("e"), &value), AZURE_DPS_OK);
    CHECK(azure_dps_json_is_null(value));
    CHECK(message.code == 0 && message.status == 0 && message.retryable == 0 && message.unknown_device == 0);
    static const char *const topics[] = {
        "$iothub/twin/res/200/?$rid=7&$version=9", "$iothub/twin/res/200/?$version=9&$rid=7",
        "$iothub/twin/res/200?new=1&$rid=7", "$iothub/twin/res/0200/?$rid=007"};
    for (size_t i = 0; i < 4; i++) {
        row(topics[i]);
        CHECK_INT(read_twin(topics[i],
                            "{\"d\\u0065sired\":{\"\\u0024version\":1},\"reported\":{\"$version\":1}}",
                            &message),
                  AZURE_DPS_OK);
        CHECK(message.request_id == 7 && message.desired_version == 1);
    }
    CHECK_INT(read_twin(ANSWER, vector("twin-toaster.json"), &message), AZURE_DPS_OK);
    CHECK_INT(azure_dps_json_get(message.desired, str("darknessSetting"), &value), AZURE_DPS_OK);
    CHECK_STR(value, "\"medium\"");
}

static void an_invalid_twin_is_malformed(void)
{
    static const char *const bodies[] = {
        "{\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":1}}",
        "{\"desired\":null,\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":1},\"reported\":[]}",
        "{\"desired\":{\"$version\":1},\"desired\":{},\"reported\":{\"$version\":1}}",
        "{\"desired\":{},\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":\"1\"},\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":-1},\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":1e2},\"reported\":{\"$version\":1}}",
        "{\"desired\":{\"$version\":10000000000000000000},\"reported\":{}}",
        "[]",
        "7",
        "null",
        "{}x",
        "",
        "{\"a\":\"\xff\"}",
    };
    azure_dps_twin_message message;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        row(bodies[i]);
        CHECK_INT(read_twin(ANSWER, bodies[i], &message), AZURE_DPS_ERR_MALFORMED);
        CHECK_INT(message.request_id, 7);
    }
    const char *whole = "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}";
    for (size_t len = 0; len < strlen(whole); len++) {
        CHECK_INT(read_twin(ANSWER, format("%.*s", (int)len, whole), &message), AZURE_DPS_ERR_MALFORMED);
    }
    static const char *const statuses[] = {"", "x", "65536", "4294967296", "-1", "+200", "200.0"};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        row(statuses[i]);
        CHECK_INT(read_twin(format("$iothub/twin/res/%s/?$rid=7", statuses[i]), whole, &message),
                  AZURE_DPS_ERR_MALFORMED);
        CHECK_INT(message.request_id, 7);
    }
}

static void other_messages_are_ignored(void)
{
    static const char *const topics[] = {
        "",
        "$iothub/twin/res",
        "$iothub/twin/res/",
        "$iothub/twin/res/200/",
        "$iothub/twin/res/200/?$rid=",
        "$iothub/twin/res/200/?$rid=-1",
        "$iothub/twin/res/200/?$rid=4294967296",
        "$iothub/twin/res/200/?rid=7",
        "$iothub/twin/PATCH/properties/reported/?$rid=7",
        "$iothub/twin/PATCH/properties/desired",
        "$iothub/twin/GET/?$rid=7",
        "$IOTHUB/twin/res/200/?$rid=7",
        " $iothub/twin/res/200/?$rid=7",
        "$iothub/methods/POST/reboot/?$rid=7",
        "$dps/registrations/res/200/?$rid=7",
        "devices/dev-1/messages/devicebound/%24.to=x",
    };
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        azure_dps_twin_message message;
        row(topics[i]);
        CHECK_INT(read_twin(topics[i], "no JSON", &message), AZURE_DPS_OK);
        CHECK_INT(message.what, AZURE_DPS_TWIN_OTHER);
        CHECK_INT(azure_dps_twin_read_skipped(exact_str(topics[i]), 7, &message), AZURE_DPS_OK);
        CHECK_INT(message.what, AZURE_DPS_TWIN_OTHER);
    }
}

static void a_change_has_its_version_in_topic_and_body(void)
{
    static const struct {
        const char *end, *body;
        azure_dps_result result;
        uint64_t version;
    } rows[] = {
        {"?$version=8", "{\"a\":null,\"$version\":8}", AZURE_DPS_OK, 8},
        {"", "{\"a\":null,\"$version\":8}", AZURE_DPS_OK, 8},
        {"?$version=8", "{\"a\":null}", AZURE_DPS_OK, 8},
        {"?$version=x", "{\"$version\":8}", AZURE_DPS_OK, 8},
        {"?$version=9223372036854775807", "{\"$version\":9223372036854775807}", AZURE_DPS_OK, INT64_MAX},
        {"?$version=9", "{\"a\":null,\"$version\":8}", AZURE_DPS_ERR_MALFORMED, 0},
        {"?$version=8", "{\"$version\":\"8\"}", AZURE_DPS_ERR_MALFORMED, 0},
        {"?$version=8", "{\"$version\":8,\"$version\":8}", AZURE_DPS_ERR_MALFORMED, 0},
        {"?$rid=8", "{\"a\":1}", AZURE_DPS_ERR_MALFORMED, 0},
        {"", "", AZURE_DPS_ERR_MALFORMED, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_twin_message message;
        row(rows[i].body);
        CHECK_INT(read_twin(format(CHANGE "%s", rows[i].end), rows[i].body, &message), rows[i].result);
        if (rows[i].result == AZURE_DPS_OK) {
            CHECK_INT(message.what, AZURE_DPS_TWIN_CHANGE);
            CHECK(message.desired_version == rows[i].version);
            CHECK_STR(message.desired, rows[i].body);
        } else {
            CHECK_INT(message.request_id, 0);
        }
    }
}

static void refusals(void)
{
    static const struct {
        uint16_t status;
        uint8_t retryable, unknown_device;
    } rows[] = {{400, 0, 0}, {401, 0, 1}, {403, 0, 1}, {404, 0, 1}, {408, 1, 0}, {409, 0, 0},
                {412, 0, 0}, {413, 0, 0}, {429, 1, 0}, {500, 1, 0}, {503, 1, 0}, {599, 1, 0}};
    azure_dps_twin_message message;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(format("%d", rows[i].status));
        CHECK_INT(read_twin(format("$iothub/twin/res/%d/?$rid=7", rows[i].status), "", &message),
                  AZURE_DPS_OK);
        CHECK_INT(message.what, AZURE_DPS_TWIN_REFUSED);
        CHECK_INT(message.request_id, 7);
        CHECK_INT(message.status, rows[i].status);
        CHECK_INT(message.retryable, rows[i].retryable);
        CHECK_INT(message.unknown_device, rows[i].unknown_device);
        CHECK_INT(message.code, 0);
    }
    CHECK_INT(read_twin("$iothub/twin/res/429/?$rid=7", "{\"errorCode\":429002,\"message\":\"Throttling\"}",
                        &message),
              AZURE_DPS_OK);
    CHECK_INT(message.code, 429002);
}

/* If a message is too large, only this message is lost. */
static void a_message_larger_than_the_client_is_skipped(void)
{
    azure_dps_twin_message message;
    memset(&message, 0x5a, sizeof message);
    CHECK_INT(azure_dps_twin_read_skipped(exact_str("$iothub/twin/res/200/?$rid=1"), 32000, &message),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(message.request_id, 1);
    CHECK_INT(azure_dps_twin_read_skipped(exact_str(CHANGE "?$version=5"), 32000, &message),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(
        azure_dps_twin_read_skipped(exact_str("$iothub/twin/res/204/?$rid=2&$version=2"), 2000, &message),
        AZURE_DPS_OK);
    CHECK_INT(message.what, AZURE_DPS_TWIN_REPORTED);
    CHECK_INT(message.reported_version, 2);
    CHECK_INT(azure_dps_twin_read_skipped(exact_str("$iothub/twin/res/400/?$rid=3"), 2000, &message),
              AZURE_DPS_OK);
    CHECK_INT(message.what, AZURE_DPS_TWIN_REFUSED);
    CHECK_INT(message.status, 400);
    azure_dps_str none = {NULL, 1};
    CHECK_INT(azure_dps_twin_read_skipped(none, 1, &message), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_read_skipped(str(ANSWER), 1, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_read(none, "", 0, &message), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_read(exact_str("\xff"), "", 0, &message), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_read(str(ANSWER), NULL, 1, &message), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_twin_read(str(ANSWER), "{}", 2, NULL), AZURE_DPS_ERR_ARGUMENT);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(messages_that_hubs_send);
    RUN(topics_are_the_documented_ones);
    RUN(the_two_parts_of_a_twin);
    RUN(an_invalid_twin_is_malformed);
    RUN(other_messages_are_ignored);
    RUN(a_change_has_its_version_in_topic_and_body);
    RUN(refusals);
    RUN(a_message_larger_than_the_client_is_skipped);
    return finish();
}
