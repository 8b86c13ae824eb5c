/*
 * Provisions a device over HTTPS and drives the state machine in its own loop. Copy this file for an event
 * loop, or for a network that does not fit azure_dps_io. main.c does the same in one call.
 */
#include "../common/device.h"
#include "tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static azure_dps_client dps;
/* Room for the longest IDs, and for payloads of up to 2 KB. */
static uint8_t buffer[AZURE_DPS_HTTP_SIZE(AZURE_DPS_ID_SCOPE_MAX, AZURE_DPS_REGISTRATION_ID_MAX, 2048, 2048)];

static uint32_t now(void) { return device_clock_ms(NULL); }

/* Closes the connection and reports the failure. azure_dps_step() then decides what to do. */
static azure_dps_result on_failure(struct tls *tls, azure_dps_result error)
{
    if (tls->ssl != NULL) tls_close(tls);
    return azure_dps_on_error(&dps, now(), error);
}

/* The service may close a connection between two requests. Then do not report an error: the same request is
 * due again, on a new connection. */
static azure_dps_result on_stale(struct tls *tls)
{
    tls_close(tls);
    return AZURE_DPS_OK;
}

static azure_dps_result open_connection(struct tls *tls)
{
    char host[AZURE_DPS_HOST_SIZE];
    uint16_t port = AZURE_DPS_HTTPS_PORT;
    azure_dps_result result = azure_dps_write_host(&dps, host, sizeof host, NULL, &port);
    if (result == AZURE_DPS_OK) {
        result = tls_connect(tls, host, port, azure_dps_request_time_left(&dps, now()));
    }
    if (result == AZURE_DPS_OK) azure_dps_on_connected(&dps);
    return result;
}

/* Sends the request that is due. Passes in the answer, or the error if there is no answer. */
static azure_dps_result exchange(struct tls *tls)
{
    size_t request_len, sent = 0;
    bool is_reused = tls->ssl != NULL;
    azure_dps_result result = is_reused ? AZURE_DPS_OK : open_connection(tls);
    if (result != AZURE_DPS_OK) return on_failure(tls, result);

    result = azure_dps_http_write_request(&dps, now(), buffer, sizeof buffer, &request_len);
    while (result == AZURE_DPS_OK && sent < request_len) {
        int32_t written = tls_write(tls, buffer + sent, request_len - sent);
        if (written > 0) {
            sent += (size_t)written;
        } else if (written != AZURE_DPS_IO_AGAIN) {
            return is_reused ? on_stale(tls) : on_failure(tls, AZURE_DPS_ERR_STREAM);
        } else if (azure_dps_request_time_left(&dps, now()) == 0) {
            return on_failure(tls, AZURE_DPS_ERR_STALLED);
        }
    }

    while (result == AZURE_DPS_OK) {
        uint8_t *space;
        size_t size;
        result = azure_dps_http_space(&dps, now(), buffer, sizeof buffer, &space, &size);
        if (result != AZURE_DPS_OK) break;
        int32_t len = tls_read(tls, space, size);
        if (is_reused && len <= 0 && len != AZURE_DPS_IO_AGAIN) return on_stale(tls);
        if (len >= 0) {
            /* 0: the server closed the connection. This may be the end of the answer. */
            bool keep_alive = false;
            int32_t complete =
                azure_dps_http_received(&dps, now(), buffer, sizeof buffer, (size_t)len, &keep_alive);
            if (complete == 0) continue;
            /* The answer is complete, or there is no answer. azure_dps_step() returns the next step. */
            if (!keep_alive) tls_close(tls);
            return AZURE_DPS_OK;
        }
        if (len != AZURE_DPS_IO_AGAIN) return on_failure(tls, AZURE_DPS_ERR_STREAM);
        if (azure_dps_request_time_left(&dps, now()) == 0) return on_failure(tls, AZURE_DPS_ERR_STALLED);
    }
    return result;
}

/* Does the whole run. */
static azure_dps_result drive(struct tls *tls, const azure_dps_signer *signer)
{
    azure_dps_result result = azure_dps_start(&dps, now(), (uint64_t)time(NULL));
    while (result == AZURE_DPS_OK) {
        uint32_t wait_ms;
        int32_t step = azure_dps_step(&dps, now(), &wait_ms);
        switch (step) {
        case AZURE_DPS_SIGN: result = azure_dps_sign(&dps, signer, buffer, sizeof buffer); break;
        case AZURE_DPS_SEND: result = exchange(tls); break;
        case AZURE_DPS_WAIT: device_delay_ms(NULL, wait_ms); break;
        case AZURE_DPS_FINISHED: return azure_dps_get_error(&dps, &(azure_dps_error){0});
        default:
            /* AZURE_DPS_ACTIVATE is for a TPM. Other values are wrong use. */
            result = step < 0 ? step : AZURE_DPS_ERR_UNSUPPORTED;
        }
    }
    return result;
}

static int provision(struct device *device, struct tls *tls)
{
    azure_dps_config config = device_config(device);
    azure_dps_signer keys;
    azure_dps_assignment assignment;

    azure_dps_result result = azure_dps_init(&dps, &config);
    if (result == AZURE_DPS_OK && device->endpoint != NULL) {
        result = azure_dps_set_endpoint(&dps, azure_dps_str_of(device->endpoint));
    }
    if (result == AZURE_DPS_OK) result = drive(tls, device_signer(device, &keys));
    if (tls->ssl != NULL) tls_close(tls);
    if (result == AZURE_DPS_OK) result = azure_dps_get_assignment(&dps, buffer, sizeof buffer, &assignment);
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
    device_read(&device, argc, argv, "Provisions a device over HTTPS. Calls the state machine directly.");
    int exit_code = 2;
    if (tls_init(&tls, device.ca_file, device.certificate, device.private_key)) {
        exit_code = provision(&device, &tls);
        tls_free(&tls);
    }
    device_wipe(&device);
    return exit_code;
}
