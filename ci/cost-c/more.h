/*
 * What a program may do besides W. Each function is in an image of its own: what this image has more than
 * that of W is what the function costs.
 */
#ifndef MORE_H
#define MORE_H

#include "workload.h"

/* azure_dps_run(), with all callbacks. */
bool run_http(struct device *device);
/* HTTP without I/O: write a request, read an answer. */
bool http(struct device *device);
bool set_endpoint(struct device *device);
bool get_error(struct device *device);
bool write_error(struct device *device);
bool write_service_message(struct device *device);
/* Host, user name and password of the hub. */
bool hub(struct device *device);
/* The topic that asks for the twin, and one setting of the answer. */
bool twin(struct device *device);
/* The assignment to flash, and back. */
bool record(struct device *device);
/* When to ask DPS again; with a record. */
bool reprovisioning(struct device *device);

#endif
