/*
 * One boot of a device that stores its assignment. It connects to the hub of its record. It asks DPS if there is
 * no record, or if the hub rejects the device. DPS is over HTTPS with OpenSSL, the hub over MQTT with paho.
 *
 *     dps-emulator --https 127.0.0.1:8443 --mqtts 127.0.0.1:8883 --ca-out ca.pem
 *     export AZURE_DPS_SYMMETRIC_KEY=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=
 *     life --id-scope 0ne00002193 --registration-id breakroom499-contoso-tstrsd-007 \
 *         --host localhost:8443 --ca ca.pem --hub-address localhost:8883 --record record.bin
 */
#include "../common/device.h"
#include "../https_openssl/tls.h"
#include "../mqtt_paho/hub.h"
#include "../mqtt_paho/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define EXIT_OTHER 1

/* This program ends if the next wait is longer. A real device waits. */
#define LONGEST_WAIT_MS 10000

static azure_dps_reprovisioning life;
static azure_dps_client dps;
/* Room for the longest IDs, and for payloads of up to 2 KB. */
static uint8_t buffer[AZURE_DPS_HTTP_SIZE(AZURE_DPS_ID_SCOPE_MAX, AZURE_DPS_REGISTRATION_ID_MAX, 2048, 2048)];
/* The content of the file. A real device has flash. */
static uint8_t record[AZURE_DPS_RECORD_SIZE(AZURE_DPS_REGISTRATION_ID_MAX, 2048)];
static size_t record_len;

static uint32_t now(void) { return device_clock_ms(NULL); }

static void read_record(const char *file_name)
{
    FILE *file = fopen(file_name, "rb");
    if (file == NULL) return; /* The first boot. */
    record_len = fread(record, 1, sizeof record, file);
    fclose(file);
}

/* Replaces the file in one step: after a power cut, the file has the old record or the new one. */
static bool write_record(const char *file_name)
{
    char new_name[4096];
    if ((size_t)snprintf(new_name, sizeof new_name, "%s.new", file_name) >= sizeof new_name) return false;
    FILE *file = fopen(new_name, "wb");
    if (file == NULL) return false;
    bool is_written = fwrite(record, 1, record_len, file) == record_len;
    is_written = fclose(file) == 0 && is_written;
    return is_written && rename(new_name, file_name) == 0;
}

/* Asks DPS and stores the assignment. Returns the exit code. */
static int provision(struct device *device, struct tls *tls, const azure_dps_config *config)
{
    const azure_dps_io io = {
        .ctx = tls,
        .connect = tls_connect,
        .read = tls_read,
        .write = tls_write,
        .close = tls_close,
        .clock_ms = device_clock_ms,
        .delay_ms = device_delay_ms,
    };
    azure_dps_signer keys;
    azure_dps_assignment assignment;

    azure_dps_result result = azure_dps_init(&dps, config);
    if (result == AZURE_DPS_OK && device->endpoint != NULL) {
        result = azure_dps_set_endpoint(&dps, azure_dps_str_of(device->endpoint));
    }
    if (result == AZURE_DPS_OK) {
        const azure_dps_signer *signer = device_signer(device, &keys);
        result = azure_dps_run(&dps, (uint64_t)time(NULL), signer, buffer, sizeof buffer, &io);
    }
    int exit_code;
    if (result != AZURE_DPS_OK) {
        exit_code = device_report(&dps, result, buffer, sizeof buffer, config->lookup);
        azure_dps_reprovisioning_on_failed(&life, now(), &dps);
    } else {
        result = azure_dps_get_assignment(&dps, buffer, sizeof buffer, &assignment);
        exit_code = result == AZURE_DPS_OK ? device_print(&assignment) : EXIT_OTHER;
        if (azure_dps_reprovisioning_on_assigned(&life, now(), &dps, buffer, sizeof buffer) == 1) {
            result = azure_dps_write_record(&dps, buffer, sizeof buffer, record, sizeof record, &record_len);
            if (result != AZURE_DPS_OK || !write_record(device->record)) {
                fprintf(stderr, "error: the record cannot be written\n");
                exit_code = EXIT_OTHER;
            }
        }
    }
    azure_dps_deinit(&dps);
    return exit_code;
}

/* Connects to the hub of the record. Returns the exit code. */
static int visit_hub(struct device *device, const azure_dps_config *config)
{
    struct session session = {
        .ca_file = device->ca_file, .certificate = device->certificate, .private_key = device->private_key};
    azure_dps_signer keys;
    azure_dps_assignment assignment;
    int32_t key;
    azure_dps_result result = azure_dps_record_read(config, record, record_len, &assignment, &key);
    if (result != AZURE_DPS_OK) {
        fprintf(stderr, "error: the record: %s\n", azure_dps_result_name(result));
        return EXIT_OTHER;
    }
    int32_t outcome = hub_visit(&session, device, &assignment, device_signer(device, &keys), key);
    azure_dps_reprovisioning_on_hub(&life, now(), outcome);
    return hub_exit_code(outcome);
}

static int boot(struct device *device, struct tls *tls)
{
    azure_dps_config config = device_config(device);
    read_record(device->record);
    azure_dps_result result = azure_dps_reprovisioning_init(&life, &config, NULL, record, record_len);
    if (result != AZURE_DPS_OK) {
        fprintf(stderr, "error: %s\n", azure_dps_result_name(result));
        return 2;
    }
    int exit_code = EXIT_OTHER;
    for (;;) {
        uint32_t wait_ms;
        int32_t key;
        int32_t next = azure_dps_reprovisioning_next(&life, now(), &wait_ms, &key);
        switch (next) {
        case AZURE_DPS_NEXT_HUB:
            exit_code = visit_hub(device, &config);
            if (exit_code == EXIT_SUCCESS) return exit_code;
            break;
        case AZURE_DPS_NEXT_LOOK_UP:
        case AZURE_DPS_NEXT_REGISTER:
            config.lookup = next == AZURE_DPS_NEXT_LOOK_UP;
            config.first_key = (uint8_t)key;
            exit_code = provision(device, tls, &config);
            break;
        case AZURE_DPS_NEXT_WAIT:
            if (wait_ms > LONGEST_WAIT_MS) return exit_code;
            device_delay_ms(NULL, wait_ms);
            break;
        default: fprintf(stderr, "error: %s\n", azure_dps_result_name(next)); return EXIT_OTHER;
        }
    }
}

int main(int argc, char **argv)
{
    struct device device;
    struct tls tls;
    device_read(&device, argc, argv, "Boots a device that stores its assignment.");
    if (device.record == NULL) {
        fprintf(stderr, "error: --record is missing. See --help.\n");
        return 2;
    }
    int exit_code = 2;
    if (tls_init(&tls, device.ca_file, device.certificate, device.private_key)) {
        exit_code = boot(&device, &tls);
        tls_free(&tls);
    }
    device_wipe(&device);
    return exit_code;
}
