/*
 * The reference workload W of ../cost/src/workload.rs through the C API: the CPU work of one provisioning run over
 * MQTT. The steps are a to e. `read_key` belongs to step b, and `init` to step c.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>

#include "azure_dps.h"

/* The memory that the caller of the library owns. */
struct device {
    azure_dps_client dps;
    azure_dps_key key;
    char buffer[760];
};

/* In answers.S. */
extern const char assigning[], assigning_end[], assigned[], assigned_end[];

/* Group key, device key, base64. `text` has 45 bytes. */
bool a(char *text);
/* The device key from base64. */
bool read_key(struct device *device);
/* Creates the client, and checks that the payload is JSON. */
bool init(struct device *device);
/* The SAS token. */
bool b(struct device *device);
/* The user name; the topic and the body of the register request. */
bool c(struct device *device);
/* The 202 answer, and the poll that follows. */
bool d(struct device *device);
/* The final answer: hub, device ID and the raw payload. */
bool e(struct device *device, const char *body, size_t body_len, azure_dps_assignment *assignment);

/* Writes topic and body of the pending request. */
bool request(struct device *device, uint32_t now_ms);

/* The whole of W, as in one run of a device. */
bool run(struct device *device);

#endif
