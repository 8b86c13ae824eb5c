/* Keys: published vectors, every length, wiping, invalid keys. */
#include <stdio.h>
#include <string.h>

#include "support.h"

/* Returns whether the key is empty, as after a wipe or an error. An empty key signs nothing. */
static bool is_empty(azure_dps_key *key)
{
    uint8_t signature[32];
    return azure_dps_key_sign(key, (const uint8_t *)"m", 1, signature) != 0;
}

static void device_keys_are_derived_as_published(void)
{
    const char *file = vector("device-keys.tsv");
    const char *columns[4];
    int count = 0;
    while (next_row(&file, columns, 4) == 4) {
        azure_dps_key key;
        char text[45];
        size_t len = 0;
        row(columns[2]);
        CHECK_INT(azure_dps_key_derive(&key, exact_str(columns[1]), exact_str(columns[2])), AZURE_DPS_OK);
        CHECK_INT(azure_dps_key_write_base64(&key, text, sizeof text, &len), AZURE_DPS_OK);
        CHECK_TEXT(text, len, columns[3]);
        CHECK_INT(text[len], 0);
        azure_dps_key_wipe(&key);
        CHECK(is_empty(&key));
        count++;
    }
    CHECK_INT(count, 3);
}

static void signatures_are_as_published(void)
{
    const char *file = vector("sas-tokens.tsv");
    const char *columns[5];
    int count = 0;
    while (next_row(&file, columns, 5) == 5) {
        azure_dps_key key;
        uint8_t signature[32];
        char *text = format("%s\n%s", columns[2], columns[3]);
        azure_dps_str message = exact_str(text);
        row(columns[0]);
        CHECK_INT(azure_dps_key_from_base64(&key, exact_str(columns[1])), AZURE_DPS_OK);
        CHECK_INT(azure_dps_key_sign(&key, (const uint8_t *)message.ptr, message.len, signature), 0);
        CHECK_STR(str(base64(signature, sizeof signature)), unescape_percent(columns[4]));
        azure_dps_key_wipe(&key);
        count++;
    }
    CHECK_INT(count, 4);
}

static void keys_are_16_to_64_bytes_of_base64(void)
{
    uint8_t bytes[200];
    memset(bytes, 0xa5, sizeof bytes);
    const char *key32 = base64(bytes, 32);
    const struct {
        const char *text;
        azure_dps_result result;
    } rows[] = {
        {base64(bytes, 16), AZURE_DPS_OK},
        {key32, AZURE_DPS_OK},
        {base64(bytes, 63), AZURE_DPS_OK},
        {base64(bytes, 64), AZURE_DPS_OK},
        {base64(bytes, 15), AZURE_DPS_ERR_INVALID_KEY},
        {base64(bytes, 65), AZURE_DPS_ERR_INVALID_KEY},
        {base64(bytes, 66), AZURE_DPS_ERR_INVALID_KEY},
        {base64(bytes, 200), AZURE_DPS_ERR_INVALID_KEY},
        {"", AZURE_DPS_ERR_INVALID_KEY},
        {"pa", AZURE_DPS_ERR_INVALID_KEY},
        {replace(key32, "=", ""), AZURE_DPS_ERR_INVALID_KEY},
        {format("%s\n", key32), AZURE_DPS_ERR_INVALID_KEY},
        {replace(key32, "pa", "p "), AZURE_DPS_ERR_INVALID_KEY},
        {"<symmetric_Key>", AZURE_DPS_ERR_INVALID_KEY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        azure_dps_key key;
        row(rows[i].text);
        CHECK_INT(azure_dps_key_from_base64(&key, exact_str(rows[i].text)), rows[i].result);
        CHECK_INT(is_empty(&key), rows[i].result != AZURE_DPS_OK);
        /* An error also wipes a previous key. */
        CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
        CHECK_INT(azure_dps_key_derive(&key, exact_str(rows[i].text), str(TOASTER)), rows[i].result);
        CHECK_INT(is_empty(&key), rows[i].result != AZURE_DPS_OK);
        azure_dps_key_wipe(&key);
    }
}

static void a_group_key_derives_for_registration_ids_only(void)
{
    const char *ids[] = {"", "a b", "a.", "a\xff"};
    const azure_dps_result results[] = {AZURE_DPS_ERR_INVALID_REGISTRATION_ID,
                                        AZURE_DPS_ERR_INVALID_REGISTRATION_ID,
                                        AZURE_DPS_ERR_INVALID_REGISTRATION_ID, AZURE_DPS_ERR_ARGUMENT};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        azure_dps_key key;
        row(ids[i]);
        CHECK_INT(azure_dps_key_derive(&key, str(GROUP_KEY), exact_str(ids[i])), results[i]);
        CHECK(is_empty(&key));
        azure_dps_key_wipe(&key);
    }
}

static void keys_are_written_as_read_with_exact_sizes(void)
{
    for (size_t key_len = 16; key_len <= 64; key_len++) {
        uint8_t bytes[64];
        for (size_t i = 0; i < key_len; i++) {
            bytes[i] = (uint8_t)(i * 3);
        }
        const char *text = base64(bytes, key_len);
        size_t text_len = strlen(text);
        azure_dps_key key;
        row(text);
        CHECK_INT(azure_dps_key_from_base64(&key, exact_str(text)), AZURE_DPS_OK);
        for (size_t size = 0; size <= text_len; size += text_len / 4) {
            size_t len = 0;
            char *small = (char *)exact(size + 1);
            azure_dps_result expected = AZURE_DPS_ERR_BUFFER_TOO_SMALL;
            CHECK_INT(azure_dps_key_write_base64(&key, small, size, &len), expected);
            CHECK_INT(len, text_len + 1);
            CHECK_INT(azure_dps_key_write_base64(&key, size == 0 ? NULL : small, size, NULL), expected);
        }
        size_t len = 0;
        char *enough = (char *)exact(text_len + 1);
        CHECK_INT(azure_dps_key_write_base64(&key, enough, text_len + 1, &len), AZURE_DPS_OK);
        CHECK_TEXT(enough, len, text);
        CHECK_INT(enough[len], 0);
        azure_dps_key_wipe(&key);
    }
}

static void a_wiped_key_leaves_nothing(void)
{
    static const uint8_t secret[] = "0123456789abcdef0123456789ABCDEF";
    azure_dps_key key;
    CHECK_INT(azure_dps_key_from_base64(&key, str(base64(secret, 32))), AZURE_DPS_OK);
    CHECK(holds(&key, sizeof key, secret, 32));
    azure_dps_key_wipe(&key);
    CHECK(!holds(&key, sizeof key, secret, 8));
    CHECK(!holds(&key, sizeof key, secret + 16, 8));
    /* A second wipe changes nothing. */
    azure_dps_key_wipe(&key);

    CHECK_INT(azure_dps_key_from_base64(&key, str(base64(secret, 32))), AZURE_DPS_OK);
    CHECK_INT(azure_dps_key_from_base64(&key, str("secret!")), AZURE_DPS_ERR_INVALID_KEY);
    CHECK(!holds(&key, sizeof key, secret, 8));
    CHECK_INT(azure_dps_key_from_base64(&key, str(base64(secret, 32))), AZURE_DPS_OK);
    CHECK_INT(azure_dps_key_from_base64(&key, exact_str("\xff")), AZURE_DPS_ERR_ARGUMENT);
    CHECK(!holds(&key, sizeof key, secret, 8));
    azure_dps_key_wipe(&key);
}

static void misuse_of_a_key_is_an_error(void)
{
    azure_dps_key zero, garbage, key, moved;
    char text[100];
    size_t len;
    uint8_t signature[32];
    const uint8_t *message = (const uint8_t *)"m";
    azure_dps_str no_text = {NULL, 5};
    memset(&zero, 0, sizeof zero);
    memset(&garbage, 0x5a, sizeof garbage);
    CHECK_INT(azure_dps_key_from_base64(&key, str(TOASTER_KEY)), AZURE_DPS_OK);
    memcpy(&moved, &key, sizeof key);

    CHECK_INT(azure_dps_key_write_base64(&zero, text, sizeof text, &len), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_write_base64(&garbage, text, sizeof text, &len), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_write_base64(&moved, text, sizeof text, &len), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_sign(&zero, message, 1, signature), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_sign(&garbage, message, 1, signature), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_sign(&moved, message, 1, signature), AZURE_DPS_ERR_HANDLE);

    CHECK_INT(azure_dps_key_from_base64(NULL, str(TOASTER_KEY)), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_from_base64(&zero, no_text), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_derive(NULL, str(GROUP_KEY), str(TOASTER)), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_derive(&zero, no_text, str(TOASTER)), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_derive(&zero, str(GROUP_KEY), no_text), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_write_base64(NULL, text, sizeof text, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_write_base64(&key, NULL, sizeof text, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_sign(NULL, message, 1, signature), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_sign(&key, NULL, 1, signature), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_sign(&key, message, 1, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_key_sign_second(NULL, message, 1, signature), AZURE_DPS_ERR_ARGUMENT);
    azure_dps_key_wipe(NULL);

    /* After these errors, the key still signs, also an empty message. */
    CHECK_INT(azure_dps_key_sign(&key, message, 1, signature), 0);
    CHECK_INT(azure_dps_key_sign(&key, NULL, 0, signature), 0);
    azure_dps_key_wipe(&key);
    CHECK_INT(azure_dps_key_write_base64(&key, text, sizeof text, &len), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_sign(&key, message, 1, signature), AZURE_DPS_ERR_HANDLE);
    azure_dps_key_wipe(&moved);
}

static void the_second_of_two_keys_signs(void)
{
    azure_dps_key keys[2];
    uint8_t first[32], second[32], expected[32];
    const uint8_t *message = (const uint8_t *)"message";
    CHECK_INT(azure_dps_key_from_base64(&keys[0], str(HEAT_PUMP_KEY)), AZURE_DPS_OK);
    memset(&keys[1], 0, sizeof keys[1]);
    azure_dps_signer two = azure_dps_two_keys_signer(keys);
    CHECK_INT(two.sign_with_secondary_key(two.ctx, message, 7, second), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_key_from_base64(&keys[1], str(TOASTER_KEY)), AZURE_DPS_OK);
    CHECK_INT(two.sign(two.ctx, message, 7, first), 0);
    CHECK_INT(two.sign_with_secondary_key(two.ctx, message, 7, second), 0);
    CHECK(memcmp(first, second, 32) != 0);
    azure_dps_signer one = azure_dps_key_signer(&keys[1]);
    CHECK_INT(one.sign(one.ctx, message, 7, expected), 0);
    CHECK_BYTES(second, expected, 32);
    CHECK(one.sign_with_secondary_key == NULL && one.activate == NULL && two.activate == NULL);
    azure_dps_key_wipe(&keys[0]);
    azure_dps_key_wipe(&keys[1]);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(device_keys_are_derived_as_published);
    RUN(signatures_are_as_published);
    RUN(keys_are_16_to_64_bytes_of_base64);
    RUN(a_group_key_derives_for_registration_ids_only);
    RUN(keys_are_written_as_read_with_exact_sizes);
    RUN(a_wiped_key_leaves_nothing);
    RUN(misuse_of_a_key_is_an_error);
    RUN(the_second_of_two_keys_signs);
    return finish();
}
