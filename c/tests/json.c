/* JSON: edge cases of RFC 8259, members, elements, strings, numbers. */
#include <stdio.h>
#include <string.h>

#include "support.h"

static azure_dps_str member(const char *object, const char *name)
{
    azure_dps_str value = {NULL, 0};
    CHECK_INT(azure_dps_json_get(exact_str(object), exact_str(name), &value), AZURE_DPS_OK);
    return value;
}

static azure_dps_result text_of(azure_dps_str value, const char **text)
{
    char *buffer = (char *)exact(value.len + 1);
    size_t len = 0;
    azure_dps_result result = azure_dps_json_write_text(value, buffer, value.len + 1, &len);
    if (result == AZURE_DPS_OK) {
        CHECK_INT(buffer[len], 0);
        *text = buffer;
    }
    return result;
}

static void members_are_found(void)
{
    const char *object =
        " {\"a\" : {\"b\":[1,{\"c\":\"d\"}]}, \"e\":null,\"n\\u0061me\":\"x\",\"two\":1,\"two\":2,\"\":0} ";
    azure_dps_str value;
    CHECK_STR(member(object, "a"), "{\"b\":[1,{\"c\":\"d\"}]}");
    CHECK_STR(member(object, "name"), "\"x\"");
    CHECK_STR(member(object, "two"), "1");
    CHECK_STR(member(object, ""), "0");
    CHECK_STR(member(object, "e"), "null");
    CHECK(azure_dps_json_is_null(member(object, "e")));
    CHECK(!azure_dps_json_is_null(member(object, "a")));
    CHECK(!azure_dps_json_is_null(exact_str("")));
    CHECK_INT(azure_dps_json_get(exact_str(object), exact_str("b"), &value), AZURE_DPS_ERR_NOT_FOUND);
    CHECK_INT(azure_dps_json_get(exact_str("{}"), exact_str("a"), &value), AZURE_DPS_ERR_NOT_FOUND);
    /* The results point into the text. */
    azure_dps_str text = exact_str(object);
    CHECK_INT(azure_dps_json_get(text, str("a"), &value), AZURE_DPS_OK);
    CHECK(value.ptr == text.ptr + 8);
    static const char *const others[] = {"[]", "1", "\"a\"", "null", "true", " ", "{", "x", "{\"a\":1"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        row(others[i]);
        CHECK_INT(azure_dps_json_get(exact_str(others[i]), str("b"), &value), AZURE_DPS_ERR_MALFORMED);
    }
}

static void elements_are_found(void)
{
    azure_dps_str value, array = exact_str("[1, [2], \"]\",{\"a\":[3]} , null]");
    static const char *const elements[] = {"1", "[2]", "\"]\"", "{\"a\":[3]}", "null"};
    for (size_t i = 0; i < 5; i++) {
        row(elements[i]);
        CHECK_INT(azure_dps_json_at(array, i, &value), AZURE_DPS_OK);
        CHECK_STR(value, elements[i]);
    }
    CHECK_INT(azure_dps_json_at(array, 5, &value), AZURE_DPS_ERR_NOT_FOUND);
    CHECK_INT(azure_dps_json_at(array, SIZE_MAX, &value), AZURE_DPS_ERR_NOT_FOUND);
    CHECK_INT(azure_dps_json_at(exact_str("[]"), 0, &value), AZURE_DPS_ERR_NOT_FOUND);
    static const char *const others[] = {"{}", "1", "\"a\"", "null", "", "[1", "[1,]", "[,1]"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        row(others[i]);
        CHECK_INT(azure_dps_json_at(exact_str(others[i]), 9, &value), AZURE_DPS_ERR_MALFORMED);
    }
}

static void corners(void)
{
    static const struct {
        const char *value;
        bool is_json;
    } rows[] = {
        {"\"\\ud83d\\ude00\"", true},
        {"\"\\ud83d\"", false},
        {"\"\\ude00\"", false},
        {"\"\\ud83d\\ud83d\"", false},
        {"\"\\ud83dx\"", false},
        {"\"\\u00\"", false},
        {"\"\\x\"", false},
        {"\"\x1f\"", false},
        {"\"\x7f\"", true},
        {"01", false},
        {"-", false},
        {"-0", true},
        {"0.", false},
        {".5", false},
        {"1e", false},
        {"1E+09", true},
        {"1e999", true},
        {"+1", false},
        {"NaN", false},
        {"True", false},
        {"nul", false},
        {"", false},
        {"1,,\"b\":2", false},
        {"[1,]", false},
        {"[,1]", false},
        {"[", false},
        {"{]", false},
        {"1}", false},
        {"[[],{},[{}]]", true},
        {"1 ", true},
        {"\f1", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_str value;
        row(rows[i].value);
        CHECK_INT(azure_dps_json_get(exact_str(format("{\"a\":%s}", rows[i].value)), str("a"), &value),
                  rows[i].is_json ? AZURE_DPS_OK : AZURE_DPS_ERR_MALFORMED);
    }
    azure_dps_str value;
    CHECK_INT(azure_dps_json_get(exact_str("\xef\xbb\xbf{}"), str("a"), &value), AZURE_DPS_ERR_MALFORMED);
    CHECK_INT(azure_dps_json_get(exact_str("/* */{}"), str("a"), &value), AZURE_DPS_ERR_MALFORMED);
    azure_dps_str with_zero = {"{}", 3};
    CHECK_INT(azure_dps_json_get(with_zero, str("a"), &value), AZURE_DPS_ERR_MALFORMED);
    /* The maximum depth is 64. A depth of 100 000 does not exhaust the stack. */
    static const size_t depths[] = {62, 63, 64, 100000};
    for (size_t i = 0; i < 4; i++) {
        const char *nested = format("{\"p\":%s1%s}", repeat("[", depths[i]), repeat("]", depths[i]));
        row(format("%lu", (unsigned long)depths[i]));
        CHECK_INT(azure_dps_json_get(exact_str(nested), str("p"), &value),
                  depths[i] <= 63 ? AZURE_DPS_OK : AZURE_DPS_ERR_MALFORMED);
    }
}

static void strings_are_decoded(void)
{
    static const struct {
        const char *value, *text;
    } rows[] = {
        {"\"\"", ""},
        {"\"plain\"", "plain"},
        {" \"x\" ", "x"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u00e4\\u20ac\\ud83d\\ude00\"", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\xc3\xa4\"", "\xc3\xa4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = "";
        size_t text_len = strlen(rows[i].text), len = 0;
        azure_dps_str value = exact_str(rows[i].value);
        row(rows[i].value);
        CHECK_INT(text_of(value, &text), AZURE_DPS_OK);
        CHECK_STR(str(text), rows[i].text);
        for (size_t size = 0; size <= text_len; size++) {
            CHECK_INT(azure_dps_json_write_text(value, (char *)exact(size + 1), size, &len),
                      AZURE_DPS_ERR_BUFFER_TOO_SMALL);
            CHECK_INT(len, text_len + 1);
        }
        CHECK_INT(azure_dps_json_write_text(value, NULL, 0, NULL), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(azure_dps_json_write_text(value, (char *)exact(text_len + 1), text_len + 1, NULL),
                  AZURE_DPS_OK);
    }
    /* A zero byte in a text. */
    char buffer[8];
    size_t len = 0;
    CHECK_INT(azure_dps_json_write_text(exact_str("\"a\\u0000b\""), buffer, sizeof buffer, &len),
              AZURE_DPS_OK);
    CHECK_INT(len, 3);
    CHECK_BYTES(buffer, "a\0b", 4);
    static const char *const others[] = {"1", "null", "{}", "", "\"", "\"a\" b", "\"\\ud83d\""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const char *text;
        row(others[i]);
        CHECK_INT(text_of(exact_str(others[i]), &text), AZURE_DPS_ERR_MALFORMED);
    }
}

static void numbers_and_booleans(void)
{
    static const struct {
        const char *text;
        bool is_number;
        uint32_t number;
    } rows[] = {
        {"0", true, 0},           {"4294967295", true, UINT32_MAX},
        {"4294967296", false, 0}, {"-1", false, 0},
        {"1.0", false, 0},        {"1e3", false, 0},
        {"\"1\"", false, 0},      {"", false, 0},
        {" 7 ", true, 7},         {"07", false, 0},
        {"true", false, 0},       {"1 1", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t number = 5;
        row(rows[i].text);
        CHECK_INT(azure_dps_json_u32(exact_str(rows[i].text), &number),
                  rows[i].is_number ? AZURE_DPS_OK : AZURE_DPS_ERR_MALFORMED);
        CHECK(!rows[i].is_number || number == rows[i].number);
    }
    bool truth = false;
    CHECK_INT(azure_dps_json_bool(exact_str("true"), &truth), AZURE_DPS_OK);
    CHECK(truth);
    CHECK_INT(azure_dps_json_bool(exact_str(" false"), &truth), AZURE_DPS_OK);
    CHECK(!truth);
    static const char *const others[] = {"1", "null", "True", "\"true\"", "", "tru", "truex"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        row(others[i]);
        CHECK_INT(azure_dps_json_bool(exact_str(others[i]), &truth), AZURE_DPS_ERR_MALFORMED);
    }
}

static void wrong_arguments(void)
{
    azure_dps_str value, none = {NULL, 1}, not_utf8 = exact_str("{\"\xff\":1}"),
                         object = exact_str("{\"a\":1}");
    char text[4];
    uint32_t number;
    bool truth;
    CHECK_INT(azure_dps_json_get(none, str("a"), &value), AZURE_DPS_ERR_ARGUMENT);
    /* A payload that the webhook did not return. */
    CHECK_INT(azure_dps_json_get((azure_dps_str){NULL, 0}, str("a"), &value), AZURE_DPS_ERR_NOT_FOUND);
    CHECK_INT(azure_dps_json_get(object, none, &value), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_get(object, str("a"), NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_get(not_utf8, str("a"), &value), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_at(none, 0, &value), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_at(exact_str("[1]"), 0, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_at(exact_str("[\"\xff\"]"), 0, &value), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_write_text(none, text, sizeof text, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_write_text(exact_str("\"a\""), NULL, sizeof text, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_u32(none, &number), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_u32(exact_str("1"), NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_bool(none, &truth), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_json_bool(exact_str("true"), NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK(!azure_dps_json_is_null(none));
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(members_are_found);
    RUN(elements_are_found);
    RUN(corners);
    RUN(strings_are_decoded);
    RUN(numbers_and_booleans);
    RUN(wrong_arguments);
    return finish();
}
