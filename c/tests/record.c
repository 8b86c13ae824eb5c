/* Records of an assignment in flash that loses, mixes and flips bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define OVERHEAD 32

/* Assigns the device with this key. The tutorial's answer is in device->buffer. */
static void assigned_by(device *device, uint8_t key)
{
    azure_dps_assignment assignment;
    toaster(device);
    CHECK_INT(azure_dps_key_from_base64(&device->keys[1], str(TOASTER_KEY)), AZURE_DPS_OK);
    device->signer = azure_dps_two_keys_signer(device->keys);
    device->config.first_key = key;
    CHECK_INT(run_to(device, "200 OK", assigned(), &assignment), AZURE_DPS_OK);
}

/* Returns a record of the tutorial's answer, in new memory. */
static uint8_t *record_of(uint8_t key, size_t *len)
{
    device device;
    uint8_t buffer[1024];
    assigned_by(&device, key);
    CHECK_INT(
        azure_dps_write_record(&device.dps, device.buffer, sizeof device.buffer, buffer, sizeof buffer, len),
        AZURE_DPS_OK);
    uint8_t *record = (uint8_t *)exact(*len);
    memcpy(record, buffer, *len);
    azure_dps_deinit(&device.dps);
    return record;
}

static azure_dps_result read_record(const void *record, size_t len)
{
    device device;
    azure_dps_assignment assignment;
    certified(&device, TOASTER);
    return azure_dps_record_read(&device.config, record, len, &assignment, NULL);
}

static void a_written_record_is_read(void)
{
    for (uint8_t written_key = 0; written_key < 2; written_key++) {
        device device;
        azure_dps_assignment fresh, kept;
        int32_t key = 7;
        size_t len = 0;
        uint8_t *record = record_of(written_key, &len);
        row(format("key %d", written_key));
        assigned_by(&device, written_key);
        CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &fresh),
                  AZURE_DPS_OK);
        CHECK_INT(len, OVERHEAD + fresh.registration_state.len);
        CHECK_INT(azure_dps_record_read(&device.config, record, len, &kept, &key), AZURE_DPS_OK);
        CHECK_INT(key, written_key);
        CHECK_STR(kept.assigned_hub, TOASTERS_HUB);
        CHECK_STR(kept.device_id, TOASTER);
        CHECK_INT(azure_dps_get_substatus(&kept), azure_dps_get_substatus(&fresh));
        CHECK_STR(kept.payload, format("%.*s", (int)fresh.payload.len, fresh.payload.ptr));
        CHECK_STR(kept.registration_state,
                  format("%.*s", (int)fresh.registration_state.len, fresh.registration_state.ptr));
        CHECK(kept.assigned_hub.ptr > (const char *)record &&
              kept.assigned_hub.ptr < (const char *)record + len);
        CHECK(kept.device_id.ptr > (const char *)record && kept.device_id.ptr < (const char *)record + len);
        /* The layout is the documented one. */
        CHECK(record[0] == 'D' && record[1] == 'p' && record[2] == 1 && record[3] == (6 | written_key));
        CHECK_INT(record[4] | record[5] << 8 | record[6] << 16 | record[7] << 24,
                  fresh.registration_state.len);
        CHECK_INT(azure_dps_record_len(record), len);
        azure_dps_deinit(&device.dps);
    }
}

static void sizes_are_exact(void)
{
    device device;
    size_t len = 0, needed = 0;
    assigned_by(&device, 0);
    uint8_t *record = record_of(0, &needed);
    CHECK_INT(azure_dps_write_record(&device.dps, device.buffer, sizeof device.buffer, NULL, 0, &len),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(len, needed);
    for (size_t size = 1; size < needed; size += size + 50 < needed ? 50 : 1) {
        CHECK_INT(
            azure_dps_write_record(&device.dps, device.buffer, sizeof device.buffer, exact(size), size, &len),
            AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK_INT(len, needed);
    }
    void *enough = exact(needed);
    CHECK_INT(azure_dps_write_record(&device.dps, device.buffer, sizeof device.buffer, enough, needed, NULL),
              AZURE_DPS_OK);
    CHECK_BYTES(enough, record, needed);
    azure_dps_deinit(&device.dps);
}

static void a_record_replaces_its_answer_in_the_buffer(void)
{
    device device;
    size_t len = 0, needed = 0;
    uint8_t *record = record_of(0, &needed);
    assigned_by(&device, 0);
    /* The buffer is as long as the answer. The answer is longer than its registration state. */
    size_t size = strlen(assigned());
    uint8_t *buffer = (uint8_t *)exact(size);
    memcpy(buffer, assigned(), size);
    CHECK_INT(azure_dps_write_record(&device.dps, buffer, size, buffer, size, &len), AZURE_DPS_OK);
    CHECK_INT(len, needed);
    CHECK_BYTES(buffer, record, needed);
    /* The record has replaced the answer. */
    CHECK_INT(azure_dps_write_record(&device.dps, buffer, size, buffer, size, &len),
              AZURE_DPS_ERR_WRONG_BUFFER);
    /* Other overlaps are errors and change nothing. */
    uint8_t *two = (uint8_t *)exact(size + 64);
    memcpy(two + 32, assigned(), size);
    CHECK_INT(azure_dps_write_record(&device.dps, two + 32, size, two, size, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_record(&device.dps, two + 32, size, two + 64, size, &len),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_write_record(&device.dps, two + 32, size, two + 33, 1, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_BYTES(two + 32, assigned(), size);
    azure_dps_deinit(&device.dps);
}

static void every_cut_and_every_flip_is_detected(void)
{
    size_t len = 0;
    uint8_t *record = record_of(0, &len);
    CHECK_INT(read_record(record, len), AZURE_DPS_OK);
    for (size_t cut = 0; cut < len; cut += cut < 40 ? 1 : 13) {
        uint8_t *torn = (uint8_t *)exact(cut == 0 ? 1 : cut);
        memcpy(torn, record, cut);
        row(format("%lu", (unsigned long)cut));
        CHECK_INT(read_record(torn, cut), cut < 2 ? AZURE_DPS_ERR_RECORD_ABSENT : AZURE_DPS_ERR_RECORD_TORN);
    }
    for (size_t at = 0; at < len; at += at < 40 ? 1 : 7) {
        row(format("%lu", (unsigned long)at));
        record[at] ^= 0x10;
        CHECK_INT(read_record(record, len), at < 2 ? AZURE_DPS_ERR_RECORD_ABSENT : AZURE_DPS_ERR_RECORD_TORN);
        record[at] ^= 0x10;
    }
    /* Erased flash, zeros, no bytes, and a record with other bytes after it. */
    uint8_t sector[1024];
    memset(sector, 0xff, sizeof sector);
    CHECK_INT(read_record(sector, sizeof sector), AZURE_DPS_ERR_RECORD_ABSENT);
    CHECK_INT(azure_dps_record_len(sector), 0);
    CHECK_INT(read_record(NULL, 0), AZURE_DPS_ERR_RECORD_ABSENT);
    memcpy(sector, record, len);
    CHECK_INT(read_record(sector, sizeof sector), AZURE_DPS_OK);
    memset(sector + 100, 0xff, sizeof sector - 100);
    CHECK_INT(read_record(sector, sizeof sector), AZURE_DPS_ERR_RECORD_TORN);
    CHECK_INT(azure_dps_record_len(sector), len);
    memset(sector, 0, sizeof sector);
    CHECK_INT(read_record(sector, sizeof sector), AZURE_DPS_ERR_RECORD_ABSENT);
    /* An impossible length. */
    memcpy(sector, "Dp\1\6\xff\xff\xff\xff", 8);
    CHECK_INT(read_record(sector, sizeof sector), AZURE_DPS_ERR_RECORD_TORN);
}

/* Complete records of another program, with the first bytes of their SHA-256. */
static void records_of_other_programs(void)
{
    static const struct {
        uint8_t version, flags;
        const char *state, *digest;
        azure_dps_result result;
    } rows[] = {
        {1, 6, "{\"assignedHub\":\"h\",\"deviceId\":\"d\"}",
         "\xdb\x19\xe9\xca\x61\x6a\x03\x8b\x5f\xfa\x66\x7c\x06\xc2\x50\x2f", AZURE_DPS_OK},
        {1, 7, "{\"assignedHub\":\"h\",\"deviceId\":\"d\"}",
         "\x1c\x69\x99\x0f\xf1\x4e\xfa\xa1\x3d\xd1\x7e\x93\x91\x2e\xed\x25", AZURE_DPS_OK},
        {2, 6, "{\"assignedHub\":\"h\",\"deviceId\":\"d\"}",
         "\x44\x11\x36\x03\x31\x41\xf2\x34\xfe\x33\x3d\x27\x5b\xb6\x7e\xb2", AZURE_DPS_ERR_RECORD_LAYOUT},
        {1, 8, "{\"assignedHub\":\"h\",\"deviceId\":\"d\"}",
         "\xc1\x00\x6f\x1e\x88\xa7\x60\x2e\x1d\xe5\x62\x66\x44\xc6\xc5\x95", AZURE_DPS_ERR_RECORD_LAYOUT},
        {1, 6, "{\"assignedHub\":\"h:0\",\"deviceId\":\"d\"}",
         "\xbd\xaf\xf2\xb1\x51\x40\x1d\x69\xb0\xef\x0b\x9f\x45\xab\xcc\x12", AZURE_DPS_ERR_RECORD_IMPOSSIBLE},
        {1, 6, "{\"assignedHub\":\"h\"}", "\x8f\xc1\xbb\xa8\x93\x96\x45\xd9\x96\x30\x7d\x82\xcf\xff\xb8\xda",
         AZURE_DPS_ERR_RECORD_IMPOSSIBLE},
        {1, 6, "{\"assignedHub\":\"h\",\"deviceId\":\"\\u0064\"}",
         "\xbe\xd9\x55\xda\x77\xb1\x15\xac\x61\x07\x4d\xc3\x42\xbb\x76\xa7", AZURE_DPS_ERR_RECORD_IMPOSSIBLE},
        {1, 6, "no JSON", "\x07\x41\xd4\x51\x67\x87\xf3\x92\x46\xf5\xdc\x39\xe9\xb9\x9d\xc1",
         AZURE_DPS_ERR_RECORD_IMPOSSIBLE},
        {1, 6, "{\"status\":\"failed\",\"assignedHub\":\"h\",\"deviceId\":\"d\"}",
         "\x01\xb1\x12\xba\x92\x38\x87\x1f\x9f\x01\xd2\x4f\xe2\x64\x71\xf5", AZURE_DPS_ERR_RECORD_IMPOSSIBLE},
    };
    static const char owner[] = "\x44\x66\xf9\x52\xc4\x67\x16\xce";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].state);
        uint8_t *record = (uint8_t *)exact(OVERHEAD + len);
        uint8_t header[8] = {'D', 'p', rows[i].version, rows[i].flags, (uint8_t)len, 0, 0, 0};
        memcpy(record, header, 8);
        memcpy(record + 8, owner, 8);
        memcpy(record + 16, rows[i].state, len);
        memcpy(record + 16 + len, rows[i].digest, 16);
        row(format("%lu", (unsigned long)i));
        CHECK_INT(read_record(record, OVERHEAD + len), rows[i].result);
    }
}

static void another_devices_record_is_foreign(void)
{
    size_t len = 0;
    uint8_t *record = record_of(0, &len);
    device device;
    azure_dps_assignment assignment;
    int32_t key = 0;
    certified(&device, HEAT_PUMP);
    CHECK_INT(azure_dps_record_read(&device.config, record, len, &assignment, &key),
              AZURE_DPS_ERR_RECORD_FOREIGN);
    certified(&device, TOASTER);
    device.config.id_scope = exact_str("0ne00002194");
    CHECK_INT(azure_dps_record_read(&device.config, record, len, &assignment, &key),
              AZURE_DPS_ERR_RECORD_FOREIGN);
}

static void wrong_arguments(void)
{
    size_t len = 0;
    uint8_t *record = record_of(0, &len);
    uint8_t buffer[1024];
    device device;
    azure_dps_assignment assignment;
    certified(&device, TOASTER);
    CHECK_INT(azure_dps_record_read(NULL, record, len, &assignment, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_record_read(&device.config, NULL, len, &assignment, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_record_read(&device.config, record, len, NULL, NULL), AZURE_DPS_ERR_ARGUMENT);
    device.config.registration_id = exact_str("a b");
    CHECK_INT(azure_dps_record_read(&device.config, record, len, &assignment, NULL),
              AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
    device.config.id_scope = exact_str("");
    CHECK_INT(azure_dps_record_read(&device.config, record, len, &assignment, NULL),
              AZURE_DPS_ERR_INVALID_ID_SCOPE);
    CHECK_INT(azure_dps_record_len(NULL), 0);

    CHECK_INT(azure_dps_write_record(NULL, buffer, 9, buffer, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    certified(&device, TOASTER);
    CHECK_INT(azure_dps_write_record(&device.dps, buffer, 9, buffer, 9, &len), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_write_record(&device.dps, device.buffer, 9, buffer, 9, &len),
              AZURE_DPS_ERR_NOT_STARTED);
    CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_OK);
    CHECK_INT(azure_dps_write_record(&device.dps, device.buffer, 9, buffer, 9, &len),
              AZURE_DPS_ERR_NOT_FINISHED);
    exchange(&device, 0, "403 Forbidden", "", "");
    CHECK_INT(azure_dps_write_record(&device.dps, device.buffer, 9, buffer, 9, &len), AZURE_DPS_ERR_REFUSED);
    CHECK_INT(azure_dps_write_record(&device.dps, NULL, 9, buffer, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(a_written_record_is_read);
    RUN(sizes_are_exact);
    RUN(a_record_replaces_its_answer_in_the_buffer);
    RUN(every_cut_and_every_flip_is_detected);
    RUN(records_of_other_programs);
    RUN(another_devices_record_is_foreign);
    RUN(wrong_arguments);
    return finish();
}
