/* azure_dps_reprovisioning: the hub, DPS, pauses, reboots, a clock that wraps, and wrong use. */
#include <stdio.h>
#include <string.h>

#include "support.h"

#define MINUTE 60000u
#define HOUR (60 * MINUTE)

typedef struct boot {
    device device;
    azure_dps_reprovisioning life;
    uint8_t record[1024];
    size_t record_len;
} boot;

/* Boots a device with or without a record. */
static void boot_with(boot *boot, bool has_record, const azure_dps_reprovisioning_policy *policy)
{
    azure_dps_assignment assignment;
    memset(boot, 0, sizeof *boot);
    certified(&boot->device, TOASTER);
    CHECK_INT(run_to(&boot->device, "200 OK", assigned(), &assignment), AZURE_DPS_OK);
    CHECK_INT(azure_dps_write_record(&boot->device.dps, boot->device.buffer, sizeof boot->device.buffer,
                                     boot->record, sizeof boot->record, &boot->record_len),
              AZURE_DPS_OK);
    memset(&boot->life, 0x5a, sizeof boot->life);
    CHECK_INT(azure_dps_reprovisioning_init(&boot->life, &boot->device.config, policy,
                                            has_record ? boot->record : NULL,
                                            has_record ? boot->record_len : 0),
              AZURE_DPS_OK);
}

static int32_t next(boot *boot, uint32_t now, uint32_t *wait_ms)
{
    int32_t key = 7;
    int32_t next = azure_dps_reprovisioning_next(&boot->life, now, wait_ms, &key);
    CHECK(next < 0 || key == AZURE_DPS_PRIMARY_KEY || key == AZURE_DPS_SECONDARY_KEY);
    return next;
}

/* The next step must be a wait. Returns its length. */
static uint32_t wait_at(boot *boot, uint32_t now)
{
    uint32_t wait = 0;
    CHECK_INT(next(boot, now, &wait), AZURE_DPS_NEXT_WAIT);
    CHECK(wait > 0);
    return wait;
}

/* Does a run at `now` that ends with this answer. */
static void run_at(boot *boot, const char *status, const char *body)
{
    CHECK_INT(azure_dps_start(&boot->device.dps, 0, 0), AZURE_DPS_OK);
    exchange(&boot->device, 0, status, "", body);
    CHECK_INT(step(&boot->device, 0), AZURE_DPS_FINISHED);
}

static void the_first_boot_registers_and_the_second_goes_to_the_hub(void)
{
    boot boot;
    uint32_t wait = 7;
    boot_with(&boot, false, NULL);
    CHECK_INT(next(&boot, 5, &wait), AZURE_DPS_NEXT_REGISTER);
    CHECK_INT(wait, 0);
    run_at(&boot, "200 OK", assigned());
    CHECK_INT(azure_dps_reprovisioning_on_assigned(&boot.life, 10, &boot.device.dps, boot.device.buffer,
                                                   sizeof boot.device.buffer),
              1);
    CHECK_INT(next(&boot, 10, NULL), AZURE_DPS_NEXT_HUB);
    /* The state machine did not ask for this. Nothing changes. */
    CHECK_INT(azure_dps_reprovisioning_on_assigned(&boot.life, 10, &boot.device.dps, boot.device.buffer,
                                                   sizeof boot.device.buffer),
              0);
    azure_dps_deinit(&boot.device.dps);
    boot_with(&boot, true, NULL);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_HUB);
    /* Record and configuration are not needed afterwards. */
    memset(boot.record, 0, sizeof boot.record);
    memset(&boot.device.config, 0, sizeof boot.device.config);
    CHECK_INT(next(&boot, 1, NULL), AZURE_DPS_NEXT_HUB);
    azure_dps_deinit(&boot.device.dps);
}

static void a_hub_that_refuses_the_device_sends_it_to_dps(void)
{
    static const int32_t refusals[] = {401, 403, 404};
    for (size_t i = 0; i < 3; i++) {
        boot boot;
        row(format("%ld", (long)refusals[i]));
        boot_with(&boot, true, NULL);
        CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_HUB);
        CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 0, refusals[i]), AZURE_DPS_OK);
        CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_REGISTER);
        azure_dps_deinit(&boot.device.dps);
    }
    /* With the look-up first. */
    azure_dps_reprovisioning_policy policy = {0, 0, 0, 0, 1};
    boot boot;
    boot_with(&boot, true, &policy);
    CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 0, 401), AZURE_DPS_OK);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_LOOK_UP);
    /* The answer has the hub of the record. There is nothing to write. */
    run_at(&boot, "200 OK", assigned());
    CHECK_INT(azure_dps_reprovisioning_on_assigned(&boot.life, 0, &boot.device.dps, boot.device.buffer,
                                                   sizeof boot.device.buffer),
              0);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&boot.device.dps);
}

static void an_unreachable_hub_is_tried_for_some_time(void)
{
    boot boot;
    uint32_t now = 0, wait = 0;
    unsigned tries = 0;
    boot_with(&boot, true, NULL);
    while (next(&boot, now, &wait) != AZURE_DPS_NEXT_REGISTER && CHECK(tries < 100)) {
        CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, now, AZURE_DPS_HUB_UNREACHABLE), AZURE_DPS_OK);
        if (next(&boot, now, &wait) == AZURE_DPS_NEXT_WAIT) {
            now += wait;
        }
        tries++;
    }
    CHECK(now >= 20 * MINUTE && now <= 31 * MINUTE);
    CHECK(tries > 5);
    azure_dps_deinit(&boot.device.dps);
    /* The policy sets the wait. */
    azure_dps_reprovisioning_policy policy = {MINUTE, 0, 0, 7, 0};
    boot_with(&boot, true, &policy);
    CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 0, AZURE_DPS_HUB_UNREACHABLE), AZURE_DPS_OK);
    CHECK(wait_at(&boot, 0) <= 7500);
    CHECK_INT(next(&boot, 2 * MINUTE, NULL), AZURE_DPS_NEXT_HUB);
    CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 2 * MINUTE, AZURE_DPS_HUB_UNREACHABLE),
              AZURE_DPS_OK);
    CHECK_INT(next(&boot, 2 * MINUTE, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&boot.device.dps);
}

static void sessions_that_end_well(void)
{
    boot boot;
    boot_with(&boot, true, NULL);
    CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 0, AZURE_DPS_HUB_ACCEPTED), AZURE_DPS_OK);
    CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, HOUR, AZURE_DPS_HUB_CLOSED), AZURE_DPS_OK);
    CHECK_INT(next(&boot, HOUR, NULL), AZURE_DPS_NEXT_HUB);
    /* The operator asks for reprovisioning. */
    CHECK_INT(azure_dps_reprovisioning_provision_again(&boot.life), AZURE_DPS_OK);
    CHECK_INT(next(&boot, HOUR, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&boot.device.dps);
}

static void outcomes_of_a_hub(void)
{
    static const struct {
        uint8_t return_code;
        int32_t outcome;
    } rows[] = {{0, AZURE_DPS_HUB_ACCEPTED}, {4, 401}, {5, 401}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        row(format("%d", rows[i].return_code));
        CHECK_INT(azure_dps_hub_outcome_from_connack(rows[i].return_code), rows[i].outcome);
    }
    boot boot;
    boot_with(&boot, true, NULL);
    for (int code = 0; code < 256; code++) {
        row(format("%d", code));
        CHECK_INT(
            azure_dps_reprovisioning_on_hub(&boot.life, 0, azure_dps_hub_outcome_from_connack((uint8_t)code)),
            AZURE_DPS_OK);
    }
    static const int32_t wrong[] = {0, 4, -1, 399, 600, 200, INT32_MIN, INT32_MAX, 65536 + 401};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        row(format("%ld", (long)wrong[i]));
        CHECK_INT(azure_dps_reprovisioning_on_hub(&boot.life, 0, wrong[i]), AZURE_DPS_ERR_ARGUMENT);
    }
    azure_dps_deinit(&boot.device.dps);
}

static void pauses_survive_a_reboot(void)
{
    boot boot;
    uint8_t pauses[8], none[8];
    boot_with(&boot, false, NULL);
    CHECK_INT(azure_dps_reprovisioning_get_pauses(&boot.life, 0, none), AZURE_DPS_OK);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_REGISTER);
    run_at(&boot, "403 Forbidden", "{\"errorCode\":403204}");
    CHECK_INT(azure_dps_reprovisioning_on_failed(&boot.life, 0, &boot.device.dps), AZURE_DPS_OK);
    uint32_t wait = wait_at(&boot, 0);
    CHECK(wait >= MINUTE && wait <= 90000);
    CHECK_INT(azure_dps_reprovisioning_get_pauses(&boot.life, 0, pauses), AZURE_DPS_OK);
    CHECK(memcmp(pauses, none, sizeof pauses) != 0);
    /* Another boot, with another clock, 20 seconds later. */
    CHECK_INT(azure_dps_reprovisioning_init(&boot.life, &boot.device.config, NULL, NULL, 0), AZURE_DPS_OK);
    CHECK_INT(azure_dps_reprovisioning_set_pauses(&boot.life, 4000000, pauses, 20000), AZURE_DPS_OK);
    uint32_t rest = wait_at(&boot, 4000000);
    CHECK(rest <= wait - 20000 + 1000 && rest + 1000 >= wait - 20000);
    CHECK_INT(next(&boot, 4000000 + rest, NULL), AZURE_DPS_NEXT_REGISTER);
    /* The next pause is longer. */
    CHECK_INT(azure_dps_reprovisioning_on_failed(&boot.life, 4000000 + rest, &boot.device.dps), AZURE_DPS_OK);
    CHECK(wait_at(&boot, 4000000 + rest) >= 4 * MINUTE);
    /* Pauses with a changed byte. */
    for (size_t at = 0; at < 8; at++) {
        uint8_t changed[8];
        memcpy(changed, pauses, 8);
        changed[at] ^= 0x40;
        row(format("%lu", (unsigned long)at));
        CHECK_INT(azure_dps_reprovisioning_set_pauses(&boot.life, 0, changed, 0), AZURE_DPS_ERR_ARGUMENT);
    }
    azure_dps_deinit(&boot.device.dps);
}

static void the_clock_may_wrap(void)
{
    boot boot;
    uint32_t now = 0xfffff000u;
    boot_with(&boot, false, NULL);
    CHECK_INT(next(&boot, now, NULL), AZURE_DPS_NEXT_REGISTER);
    run_at(&boot, "403 Forbidden", "");
    CHECK_INT(azure_dps_reprovisioning_on_failed(&boot.life, now, &boot.device.dps), AZURE_DPS_OK);
    uint32_t wait = wait_at(&boot, now);
    CHECK(wait >= MINUTE && wait <= 90000);
    CHECK_INT(wait_at(&boot, now + 10000), wait - 10000);
    /* A time that another thread read earlier. */
    CHECK_INT(wait_at(&boot, now + 9000), wait - 10000);
    CHECK_INT(next(&boot, now + wait, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&boot.device.dps);
}

static void records_of_every_kind(void)
{
    boot boot;
    boot_with(&boot, true, NULL);
    /* A torn record, a record of another device, and no record lead to a registration. */
    CHECK_INT(azure_dps_reprovisioning_init(&boot.life, &boot.device.config, NULL, boot.record,
                                            boot.record_len - 1),
              AZURE_DPS_OK);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_REGISTER);
    device other;
    certified(&other, HEAT_PUMP);
    CHECK_INT(azure_dps_reprovisioning_init(&boot.life, &other.config, NULL, boot.record, boot.record_len),
              AZURE_DPS_OK);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_REGISTER);
    azure_dps_deinit(&boot.device.dps);
}

static void misuse_of_a_reprovisioning_is_an_error(void)
{
    boot boot;
    boot_with(&boot, true, NULL);
    azure_dps_reprovisioning zero, garbage, moved;
    memset(&zero, 0, sizeof zero);
    memset(&garbage, 0x5a, sizeof garbage);
    memcpy(&moved, &boot.life, sizeof moved);
    azure_dps_reprovisioning *const lives[] = {NULL, &zero, &garbage, &moved};
    const void *body = boot.device.buffer;
    size_t body_len = sizeof boot.device.buffer;
    uint8_t pauses[8];
    uint32_t wait;
    CHECK_INT(azure_dps_reprovisioning_get_pauses(&boot.life, 0, pauses), AZURE_DPS_OK);
    for (size_t i = 0; i < 4; i++) {
        azure_dps_result expected = i == 0 ? AZURE_DPS_ERR_ARGUMENT : AZURE_DPS_ERR_HANDLE;
        azure_dps_reprovisioning *life = lives[i];
        row(format("%lu", (unsigned long)i));
        CHECK_INT(azure_dps_reprovisioning_next(life, 0, &wait, NULL), expected);
        CHECK_INT(azure_dps_reprovisioning_on_assigned(life, 0, &boot.device.dps, body, body_len), expected);
        CHECK_INT(azure_dps_reprovisioning_on_failed(life, 0, &boot.device.dps), expected);
        CHECK_INT(azure_dps_reprovisioning_on_hub(life, 0, AZURE_DPS_HUB_ACCEPTED), expected);
        CHECK_INT(azure_dps_reprovisioning_provision_again(life), expected);
        CHECK_INT(azure_dps_reprovisioning_get_pauses(life, 0, pauses), expected);
        CHECK_INT(azure_dps_reprovisioning_set_pauses(life, 0, pauses, 0), expected);
    }
    row("");
    azure_dps_reprovisioning *life = &boot.life;
    CHECK_INT(azure_dps_reprovisioning_init(NULL, &boot.device.config, NULL, NULL, 0),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_init(&zero, NULL, NULL, NULL, 0), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_init(&zero, &boot.device.config, NULL, NULL, 1),
              AZURE_DPS_ERR_ARGUMENT);
    device wrong;
    certified(&wrong, "a b");
    CHECK_INT(azure_dps_reprovisioning_init(&zero, &wrong.config, NULL, NULL, 0),
              AZURE_DPS_ERR_INVALID_REGISTRATION_ID);
    CHECK_INT(azure_dps_reprovisioning_next(&zero, 0, NULL, NULL), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_reprovisioning_get_pauses(life, 0, NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_set_pauses(life, 0, NULL, 0), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_on_assigned(life, 0, NULL, body, body_len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_on_assigned(life, 0, &boot.device.dps, NULL, 1),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_on_assigned(life, 0, &boot.device.dps, NULL, 0),
              AZURE_DPS_ERR_WRONG_BUFFER);
    CHECK_INT(azure_dps_reprovisioning_on_failed(life, 0, NULL), AZURE_DPS_ERR_ARGUMENT);
    /* A client is not an azure_dps_reprovisioning, and the reverse. */
    CHECK_INT(
        azure_dps_reprovisioning_next((azure_dps_reprovisioning *)(void *)&boot.device.dps, 0, NULL, NULL),
        AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_get_key((azure_dps_client *)(void *)life), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(next(&boot, 0, NULL), AZURE_DPS_NEXT_HUB);
    CHECK_INT(azure_dps_reprovisioning_next(life, 0, NULL, NULL), AZURE_DPS_NEXT_HUB);
    azure_dps_deinit(&boot.device.dps);
    CHECK_INT(azure_dps_reprovisioning_on_failed(life, 0, &boot.device.dps), AZURE_DPS_ERR_HANDLE);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(the_first_boot_registers_and_the_second_goes_to_the_hub);
    RUN(a_hub_that_refuses_the_device_sends_it_to_dps);
    RUN(an_unreachable_hub_is_tried_for_some_time);
    RUN(sessions_that_end_well);
    RUN(outcomes_of_a_hub);
    RUN(pauses_survive_a_reboot);
    RUN(the_clock_may_wrap);
    RUN(records_of_every_kind);
    RUN(misuse_of_a_reprovisioning_is_an_error);
    return finish();
}
