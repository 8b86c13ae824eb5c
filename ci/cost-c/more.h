/*
 * Functions that a program may call in addition to W. Each function has its own image. The size of this image minus
 * the size of W's image is the cost of the function.
 */
#ifndef MORE_H
#define MORE_H

#include "workload.h"

/* azure_dps_run(), with all callbacks. */
bool run_http(struct device *device);
/* HTTP without I/O: writes a request, reads an answer. */
bool http(struct device *device);
bool set_endpoint(struct device *device);
bool get_error(struct device *device);
bool write_error(struct device *device);
bool write_service_message(struct device *device);
/* Host, user name and password of the hub. */
bool hub(struct device *device);
/* Writes the topic that requests the twin, and reads one setting of the answer. */
bool twin(struct device *device);
/* Writes the assignment to flash, and reads it. */
bool record(struct device *device);
/* Decides when to ask DPS again, with a record. */
bool reprovisioning(struct device *device);

#endif
