/*
 * Provisions a device over HTTPS with OpenSSL, in one call: azure_dps_run().
 *
 *     dps-emulator --https 127.0.0.1:8443 --ca-out ca.pem
 *     export AZURE_DPS_SYMMETRIC_KEY=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=
 *     https_openssl --id-scope 0ne00002193 --registration-id breakroom499-contoso-tstrsd-007 \
 *         --host localhost:8443 --ca ca.pem
 */
#include "../common/device.h"
#include "tls.h"

#include <stdlib.h>
#include <time.h>

static azure_dps_client dps;
/* Room for the longest IDs, and for payloads of up to 2 KB. */
static uint8_t buffer[AZURE_DPS_HTTP_SIZE(AZURE_DPS_ID_SCOPE_MAX, AZURE_DPS_REGISTRATION_ID_MAX, 2048, 2048)];

static int provision(struct device *device, struct tls *tls)
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
    azure_dps_config config = device_config(device);
    azure_dps_signer keys;
    azure_dps_assignment assignment;

    azure_dps_result result = azure_dps_init(&dps, &config);
    if (result == AZURE_DPS_OK && device->endpoint != NULL) {
        result = azure_dps_set_endpoint(&dps, azure_dps_str_of(device->endpoint));
    }
    if (result == AZURE_DPS_OK) {
        result = azure_dps_run(&dps, (uint64_t)time(NULL), device_signer(device, &keys), buffer,
                               sizeof buffer, &io);
    }
    if (result == AZURE_DPS_OK) {
        result = azure_dps_get_assignment(&dps, buffer, sizeof buffer, &assignment);
    }
    int exit_code = result == AZURE_DPS_OK
                        ? device_print(&assignment)
                        : device_report(&dps, result, buffer, sizeof buffer, device->lookup);
    azure_dps_deinit(&dps);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct device device;
    struct tls tls;
    device_read(&device, argc, argv, "Provisions a device over HTTPS: azure_dps_run() with OpenSSL.");
    int exit_code = 2;
    if (tls_init(&tls, device.ca_file, device.certificate, device.private_key)) {
        exit_code = provision(&device, &tls);
        tls_free(&tls);
    }
    device_wipe(&device);
    return exit_code;
}
