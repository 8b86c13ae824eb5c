/**
 * @file device.h
 * Shared by the examples: the command line, the key, the report, the exit code.
 *
 * Firmware has its settings and its key in flash. It does not need this file.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <azure_dps.h>
#include <stdio.h>

/** The settings of one device. A member without a value is NULL or 0. */
struct device {
    const char *id_scope;
    const char *registration_id;
    const char *endpoint;    /**< The address of DPS. NULL: the global address. */
    const char *ca_file;     /**< PEM. NULL: the CAs of the system. */
    const char *payload;     /**< A JSON object for the operator's webhook. */
    const char *certificate; /**< PEM, with the certificates up to its CA. NULL: the device has a key. */
    const char *private_key; /**< PEM, of the certificate. */
    const char *hub_address; /**< Connect to this `host:port` instead of the assigned hub. */
    const char *record;      /**< The file with the record. */
    uint32_t timeout_ms;
    bool lookup;
    bool connect; /**< Also connect to the hub. */
    bool has_second_key;
    azure_dps_key keys[2]; /**< Wipe them with device_wipe(). */
};

/** Fills `device` from the command line. Ends the program on `--help` (0) and on a wrong command line (2). */
void device_read(struct device *device, int argc, char **argv, const char *summary);

/** Returns the device's configuration. It points to `device`. */
azure_dps_config device_config(const struct device *device);

/** Returns the signer for the keys of `device`. With X.509, returns NULL. */
const azure_dps_signer *device_signer(struct device *device, azure_dps_signer *signer);

/** Overwrites the keys. */
void device_wipe(struct device *device);

/** Prints a line. Replaces control characters, because `text` may come from the network. */
void device_print_line(FILE *file, const char *label, azure_dps_str text);

/** Prints the assignment on stdout. Returns the exit code 0. */
int device_print(const azure_dps_assignment *assignment);

/**
 * Prints the error of a run on stderr. `result` is the result of the last function. Returns the exit code.
 */
int device_report(const azure_dps_client *dps, azure_dps_result result, const void *body, size_t body_len,
                  bool lookup);

/** A monotonic clock in milliseconds, and a delay. `ctx` is not used. */
uint32_t device_clock_ms(void *ctx);
void device_delay_ms(void *ctx, uint32_t ms);

#endif
