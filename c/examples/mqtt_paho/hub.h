/**
 * @file hub.h
 * The device at its hub: telemetry and twin.
 */
#ifndef HUB_H
#define HUB_H

#include "../common/device.h"
#include "session.h"

/**
 * Connects to the assigned hub, sends a message, reads the twin, and reports a property. `signer` and
 * `which_key` are for the password. With X.509, `signer` is NULL. Returns the outcome for
 * azure_dps_reprovisioning_on_hub(): AZURE_DPS_HUB_ACCEPTED, AZURE_DPS_HUB_UNREACHABLE, or the status of the
 * rejection.
 */
int32_t hub_visit(struct session *session, const struct device *device,
                  const azure_dps_assignment *assignment, const azure_dps_signer *signer, int32_t which_key);

/** Returns the exit code for an outcome: 0, 11 or 12. */
int hub_exit_code(int32_t outcome);

#endif
