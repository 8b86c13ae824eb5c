/* A device over many boots: first boot, record, later boots, another hub, look-ups, pauses after a reboot. */
#include <stdio.h>
#include <string.h>

#include "support.h"

#define MEMBERS(hub) \
    "\"registrationId\":\"" TOASTER "\",\"deviceId\":\"" TOASTER "\",\"assignedHub\":\"" hub "\"," \
    "\"status\":\"assigned\""
#define ASSIGNED_TO(hub) \
    "{\"status\":\"assigned\",\"registrationState\":{" MEMBERS(hub) ",\"payload\":{\"darkness\":\"medium\"}}}"
#define LOOKED_UP(hub) "{" MEMBERS(hub) "}"
#define DISABLED "{\"status\":\"disabled\",\"registrationState\":{\"status\":\"disabled\"}}"

/* A device with flash, and the time. */
typedef struct world {
    device device;
    azure_dps_reprovisioning life;
    azure_dps_reprovisioning_policy policy;
    uint8_t flash[512];
    uint8_t pauses[8];
    uint32_t now;
    char hub[64]; /* The hub of the last connection. */
    char log[512];
} world;

static void boot(world *world)
{
    const azure_dps_config *config = &world->device.config;
    size_t size = sizeof world->flash;
    CHECK_INT(azure_dps_reprovisioning_init(&world->life, config, &world->policy, world->flash, size),
              AZURE_DPS_OK);
}

static void leave_the_factory(world *world)
{
    memset(world, 0, sizeof *world);
    toaster(&world->device);
    memset(world->flash, 0xff, sizeof world->flash); /* erased */
    world->policy.lookup = 1;
    world->now = UINT32_MAX - 1000; /* The clock wraps soon. */
    boot(world);
}

static void note(world *world, const char *what)
{
    size_t len = strlen(world->log);
    snprintf(world->log + len, sizeof world->log - len, "%s%s", len == 0 ? "" : " ", what);
}

/* Takes the result of a run that assigned the device. Writes the record if it is new. */
static bool take_assignment(world *world)
{
    device *device = &world->device;
    size_t size = sizeof device->buffer, len = 0;
    int32_t is_new =
        azure_dps_reprovisioning_on_assigned(&world->life, world->now, &device->dps, device->buffer, size);
    if (is_new != 1) {
        CHECK_INT(is_new, 0);
        return false;
    }
    /* The record replaces the answer in the buffer. */
    azure_dps_result written =
        azure_dps_write_record(&device->dps, device->buffer, size, device->buffer, size, &len);
    CHECK_INT(written, AZURE_DPS_OK);
    if (CHECK(len <= sizeof world->flash)) {
        memcpy(world->flash, device->buffer, len);
    }
    return true;
}

/* Does the run that azure_dps_reprovisioning_next() asks for. The service gives this answer. */
static void provision(world *world, int32_t next, int32_t key, const char *status, const char *body)
{
    device *device = &world->device;
    device->config.first_key = (uint8_t)key;
    device->config.lookup = next == AZURE_DPS_NEXT_LOOK_UP;
    CHECK_INT(azure_dps_init(&device->dps, &device->config), AZURE_DPS_OK);

    peer peer;
    memset(&peer, 0, sizeof peer);
    peer.answers[0] = http(status, "", body);
    peer.answers_len = 1;
    peer.piece = 100;
    peer.now = world->now;
    azure_dps_result result = run(device, &peer);
    world->now = peer.now;
    CHECK(strncmp(peer.sent, next == AZURE_DPS_NEXT_LOOK_UP ? "POST " : "PUT ", 4) == 0);
    if (result == AZURE_DPS_OK) {
        note(world, take_assignment(world) ? "assigned" : "same");
    } else {
        CHECK_INT(azure_dps_reprovisioning_on_failed(&world->life, world->now, &device->dps), AZURE_DPS_OK);
        note(world, "failed");
    }
    CHECK_INT(azure_dps_reprovisioning_get_pauses(&world->life, world->now, world->pauses), AZURE_DPS_OK);
    azure_dps_deinit(&device->dps);
}

/* Does the next step. A connection to the hub has this outcome, and the service gives this answer. */
static int32_t live(world *world, int32_t outcome, const char *status, const char *body)
{
    uint32_t wait_ms = 0;
    int32_t key = -1;
    int32_t next = azure_dps_reprovisioning_next(&world->life, world->now, &wait_ms, &key);
    switch (next) {
    case AZURE_DPS_NEXT_WAIT:
        note(world, "wait");
        CHECK(wait_ms > 0);
        world->now += wait_ms;
        break;
    case AZURE_DPS_NEXT_HUB: {
        azure_dps_assignment assignment;
        int32_t accepted = -1;
        const azure_dps_config *config = &world->device.config;
        CHECK_INT(azure_dps_record_read(config, world->flash, sizeof world->flash, &assignment, &accepted),
                  AZURE_DPS_OK);
        CHECK_INT(accepted, key);
        azure_dps_hub hub = {assignment.assigned_hub, assignment.device_id};
        CHECK_INT(azure_dps_hub_write_host(&hub, world->hub, sizeof world->hub, NULL, NULL), AZURE_DPS_OK);
        note(world, "hub");
        CHECK_INT(azure_dps_reprovisioning_on_hub(&world->life, world->now, outcome), AZURE_DPS_OK);
        break;
    }
    case AZURE_DPS_NEXT_LOOK_UP:
        note(world, "look-up");
        provision(world, next, key, status, body);
        break;
    case AZURE_DPS_NEXT_REGISTER:
        note(world, "register");
        provision(world, next, key, status, body);
        break;
    default:
        CHECK_INT(next, AZURE_DPS_NEXT_HUB);
    }
    CHECK(wait_ms == 0 || next == AZURE_DPS_NEXT_WAIT);
    return next;
}

static void check_log(world *world, const char *expected)
{
    CHECK_STR(str(world->log), expected);
    world->log[0] = '\0';
}

static void first_boot(world *world)
{
    leave_the_factory(world);
    live(world, 0, "200 OK", ASSIGNED_TO(TOASTERS_HUB));
    check_log(world, "register assigned");
}

static void from_the_factory_to_another_hub(void)
{
    world world;
    first_boot(&world);
    live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
    CHECK_STR(str(world.hub), TOASTERS_HUB);
    world.now += 3 * 3600 * 1000;
    CHECK_INT(azure_dps_reprovisioning_on_hub(&world.life, world.now, AZURE_DPS_HUB_CLOSED), AZURE_DPS_OK);
    check_log(&world, "hub");

    /* Each later boot connects directly to the hub. */
    for (int i = 0; i < 3; i++) {
        boot(&world);
        live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
    }
    check_log(&world, "hub hub hub");

    /* The operator moves the device. */
    boot(&world);
    live(&world, azure_dps_hub_outcome_from_connack(5), NULL, NULL);
    live(&world, 0, "200 OK", LOOKED_UP(HEAT_PUMPS_HUB));
    live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
    check_log(&world, "hub look-up assigned hub");
    CHECK_STR(str(world.hub), HEAT_PUMPS_HUB);

    /* The operator calls a direct method. */
    CHECK_INT(azure_dps_reprovisioning_provision_again(&world.life), AZURE_DPS_OK);
    live(&world, 0, "200 OK", ASSIGNED_TO(TOASTERS_HUB));
    live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
    check_log(&world, "register assigned hub");
    CHECK_STR(str(world.hub), TOASTERS_HUB);
}

static void a_hub_that_refuses_a_device_that_dps_sends_there(void)
{
    world world;
    first_boot(&world);
    live(&world, 404, NULL, NULL);
    check_log(&world, "hub");
    /* During the pause after the registration, the device does not ask DPS. */
    CHECK_INT(live(&world, 0, NULL, NULL), AZURE_DPS_NEXT_WAIT);
    live(&world, 404, NULL, NULL);
    live(&world, 0, "200 OK", LOOKED_UP(TOASTERS_HUB));
    live(&world, 0, "200 OK", ASSIGNED_TO(TOASTERS_HUB));
    check_log(&world, "wait hub look-up same register assigned");
}

static void without_the_look_up_the_device_registers(void)
{
    world world;
    first_boot(&world);
    world.policy.lookup = 0;
    boot(&world);
    live(&world, 401, NULL, NULL);
    live(&world, 0, "200 OK", ASSIGNED_TO(HEAT_PUMPS_HUB));
    check_log(&world, "hub register assigned");
}

static void a_torn_record_costs_a_look_up(void)
{
    for (size_t at = 0; at < 150; at += 7) {
        world world;
        first_boot(&world);
        row(format("torn at %lu", (unsigned long)at));
        memset(world.flash + at, 0xff, sizeof world.flash - at);
        boot(&world);
        live(&world, 0, "200 OK", at == 0 ? ASSIGNED_TO(TOASTERS_HUB) : LOOKED_UP(TOASTERS_HUB));
        live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
        check_log(&world, at == 0 ? "register assigned hub" : "look-up assigned hub");
    }
}

static void an_unreachable_hub_is_tried_for_its_patience(void)
{
    world world;
    first_boot(&world);
    world.policy.hub_patience_ms = 600000;
    boot(&world);
    uint32_t since = world.now;
    int32_t next;
    unsigned tries = 0;
    do {
        next = live(&world, AZURE_DPS_HUB_UNREACHABLE, "200 OK", LOOKED_UP(HEAT_PUMPS_HUB));
        tries++;
    } while (next != AZURE_DPS_NEXT_LOOK_UP && tries < 100);
    uint32_t patience = world.now - since;
    CHECK(patience >= 600000 && patience <= 915000);
    live(&world, AZURE_DPS_HUB_ACCEPTED, NULL, NULL);
    CHECK_STR(str(world.hub), HEAT_PUMPS_HUB);
}

static void pauses_survive_a_reboot(void)
{
    world world;
    leave_the_factory(&world);
    live(&world, 0, "200 OK", DISABLED);
    check_log(&world, "register failed");
    uint32_t wait_ms = 0;
    CHECK_INT(azure_dps_reprovisioning_next(&world.life, world.now, &wait_ms, NULL), AZURE_DPS_NEXT_WAIT);
    CHECK(wait_ms >= 60000 && wait_ms <= 90000);

    /* The reboot takes 10 s. The new clock has any start value. */
    boot(&world);
    CHECK_INT(azure_dps_reprovisioning_set_pauses(&world.life, 5, world.pauses, 10000), AZURE_DPS_OK);
    uint32_t left_ms = 0;
    CHECK_INT(azure_dps_reprovisioning_next(&world.life, 5, &left_ms, NULL), AZURE_DPS_NEXT_WAIT);
    CHECK(left_ms + 9000 <= wait_ms && left_ms + 11000 >= wait_ms);

    /* Without the pauses, the device asks DPS at once. */
    boot(&world);
    uint8_t erased[8];
    memset(erased, 0xff, sizeof erased);
    CHECK_INT(azure_dps_reprovisioning_set_pauses(&world.life, 5, erased, 0), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_reprovisioning_next(&world.life, 5, NULL, NULL), AZURE_DPS_NEXT_REGISTER);
}

static void the_key_that_was_accepted_is_the_first_one_later(void)
{
    world world;
    leave_the_factory(&world);
    device *device = &world.device;
    CHECK_INT(azure_dps_key_from_base64(&device->keys[1], str(HEAT_PUMP_KEY)), AZURE_DPS_OK);
    device->signer = azure_dps_two_keys_signer(device->keys);
    peer peer;
    memset(&peer, 0, sizeof peer);
    peer.answers[0] = http("401 Unauthorized", "", "{\"errorCode\":401002}");
    peer.answers[1] = http("200 OK", "", ASSIGNED_TO(TOASTERS_HUB));
    peer.answers_len = 2;
    CHECK_INT(azure_dps_init(&device->dps, &device->config), AZURE_DPS_OK);
    CHECK_INT(azure_dps_reprovisioning_next(&world.life, world.now, NULL, NULL), AZURE_DPS_NEXT_REGISTER);
    CHECK_INT(run(device, &peer), AZURE_DPS_OK);
    CHECK_INT(azure_dps_get_key(&device->dps), AZURE_DPS_SECONDARY_KEY);
    CHECK(take_assignment(&world));
    azure_dps_deinit(&device->dps);

    boot(&world);
    live(&world, 401, NULL, NULL); /* live() checks the key of the record. */
    int32_t key = -1;
    CHECK_INT(azure_dps_reprovisioning_next(&world.life, world.now, NULL, &key), AZURE_DPS_NEXT_LOOK_UP);
    CHECK_INT(key, AZURE_DPS_SECONDARY_KEY);
}

/* ---- A certificate that the service issues ---- */

/* Minimal DER: a request, a certificate with the same public key, and a certificate with another key. */
#define KEY 0x30, 0x02, 0x05, 0x00
#define OTHER_KEY 0x30, 0x02, 0x05, 0x01
#define CERTIFICATE(key) \
    {0x30, 0x16, 0x30, 0x14, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, 0x05, \
     0x30, 0x00, 0x30, 0x00, 0x30, 0x00, 0x30, 0x00, key}
static const uint8_t csr[] = {0x30, 0x0b, 0x30, 0x09, 0x02, 0x01, 0x00, 0x30, 0x00, KEY};
static const uint8_t leaf[] = CERTIFICATE(KEY);
static const uint8_t root[] = CERTIFICATE(OTHER_KEY);

static void an_issued_certificate_is_in_the_record(void)
{
    world world;
    leave_the_factory(&world);
    world.device.config.csr.ptr = csr;
    world.device.config.csr.len = sizeof csr;
    char *with_chain = replace(ASSIGNED_TO(TOASTERS_HUB), "\"payload\":",
                               format("\"issuedCertificateChain\":[\"%s\",\"%s\"],\"payload\":",
                                      base64(root, sizeof root), base64(leaf, sizeof leaf)));
    live(&world, 0, "200 OK", with_chain);

    azure_dps_assignment assignment;
    CHECK_INT(azure_dps_record_read(&world.device.config, world.flash, sizeof world.flash, &assignment, NULL),
              AZURE_DPS_OK);
    uint8_t *der = (uint8_t *)exact(sizeof leaf);
    size_t len = 0;
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, world.device.config.csr, der, sizeof leaf, &len),
              AZURE_DPS_OK);
    CHECK_INT(len, sizeof leaf);
    CHECK_BYTES(der, leaf, sizeof leaf);
    for (size_t index = 0; index < 2; index++) {
        CHECK_INT(azure_dps_certificate_write(&assignment, index, der, sizeof leaf, &len), AZURE_DPS_OK);
        CHECK_BYTES(der, index == 0 ? root : leaf, sizeof leaf);
    }
    CHECK_INT(azure_dps_certificate_write(&assignment, 2, der, sizeof leaf, &len), AZURE_DPS_ERR_NOT_FOUND);

    /* The device registers, because a look-up does not return the certificate. */
    boot(&world);
    live(&world, 401, NULL, NULL);
    live(&world, 0, "200 OK", with_chain);
    check_log(&world, "register assigned hub register assigned");
}

/* ---- A TPM ---- */

/* Six parts, each after its length. */
static const uint8_t encrypted_key[] = {0, 2, 'i', 'd', 0, 1, 's', 0, 3, 'k',
                                        'e', 'y', 0, 1, 'i', 0, 1, 'p', 0, 0};

typedef struct chip {
    char activated[16];
    unsigned signatures;
} chip;

static int32_t chip_sign(void *ctx, const uint8_t *bytes, size_t len, uint8_t *signature)
{
    chip *tpm = (struct chip *)ctx;
    CHECK(len > 0 && bytes[0] == '0');
    tpm->signatures++;
    memset(signature, tpm->activated[0], 32);
    return 0;
}

static int32_t chip_activate(void *ctx, azure_dps_str challenge)
{
    chip *tpm = (struct chip *)ctx;
    azure_dps_tpm_encrypted_key key;
    uint8_t bytes[sizeof encrypted_key];
    if (azure_dps_tpm_decode(challenge, bytes, sizeof bytes, NULL, &key) != AZURE_DPS_OK) {
        return -7;
    }
    CHECK_BYTES(key.id_object.ptr, "id", 2);
    if (CHECK(key.duplicate.len < sizeof tpm->activated)) {
        memcpy(tpm->activated, key.duplicate.ptr, key.duplicate.len);
    }
    return 0;
}

static void a_tpm_is_challenged_and_keeps_the_key_for_the_hub(void)
{
    static const uint8_t public_area[] = {0, 1, 9};
    chip tpm = {"", 0};
    world world;
    leave_the_factory(&world);
    device *device = &world.device;
    size_t size = sizeof device->buffer;
    azure_dps_signer signer = {&tpm, chip_sign, NULL, chip_activate};
    device->signer = signer;
    device->config.attestation = AZURE_DPS_TPM;
    device->config.endorsement_key.ptr = public_area;
    device->config.endorsement_key.len = sizeof public_area;
    device->config.storage_root_key = device->config.endorsement_key;
    const char *key = base64(encrypted_key, sizeof encrypted_key);
    char *challenge = format("{\"message\":\"Authorization required.\",\"authenticationKey\":\"%s\"}", key);
    char *with_key = replace(ASSIGNED_TO(TOASTERS_HUB), "\"payload\":",
                             format("\"tpm\":{\"authenticationKey\":\"%s\"},\"payload\":", key));

    /* Three ways: one call, and the caller's loop with and without the callback. */
    for (int way = 0; way < 3; way++) {
        row(format("way %d", way));
        memset(&tpm, 0, sizeof tpm);
        CHECK_INT(azure_dps_init(&device->dps, &device->config), AZURE_DPS_OK);
        if (way == 0) {
            peer peer;
            memset(&peer, 0, sizeof peer);
            peer.answers[0] = http("401 Unauthorized", "", challenge);
            peer.answers[1] = http("200 OK", "", with_key);
            peer.answers_len = 2;
            CHECK_INT(run(device, &peer), AZURE_DPS_OK);
        } else {
            azure_dps_str found;
            CHECK_INT(azure_dps_start(&device->dps, 0, UNIX_TIME), AZURE_DPS_OK);
            exchange(device, 0, "401 Unauthorized", "", challenge);
            CHECK_INT(azure_dps_tpm_on_activated(&device->dps), AZURE_DPS_ERR_NOT_DUE);
            CHECK_INT(step(device, 0), AZURE_DPS_ACTIVATE);
            CHECK_INT(azure_dps_tpm_get_challenge(&device->dps, "{}", 2, &found), AZURE_DPS_ERR_WRONG_BUFFER);
            if (way == 1) {
                CHECK_INT(azure_dps_tpm_activate(&device->dps, &signer, device->buffer, size), AZURE_DPS_OK);
            } else {
                CHECK_INT(azure_dps_tpm_get_challenge(&device->dps, device->buffer, size, &found), AZURE_DPS_OK);
                CHECK_STR(found, key);
                CHECK_INT(chip_activate(&tpm, found), 0);
                CHECK_INT(azure_dps_tpm_on_activated(&device->dps), AZURE_DPS_OK);
            }
            CHECK_INT(azure_dps_tpm_on_activated(&device->dps), AZURE_DPS_ERR_NOT_DUE);
            sign(device, 0);
            exchange(device, 0, "200 OK", "", with_key);
        }
        CHECK_STR(str(tpm.activated), "key");
        CHECK_INT(tpm.signatures, 1);
        azure_dps_result written =
            azure_dps_write_record(&device->dps, device->buffer, size, world.flash, sizeof world.flash, NULL);
        CHECK_INT(written, AZURE_DPS_OK);
        azure_dps_deinit(&device->dps);
    }

    azure_dps_assignment assignment;
    azure_dps_str kept;
    CHECK_INT(azure_dps_record_read(&device->config, world.flash, sizeof world.flash, &assignment, NULL),
              AZURE_DPS_OK);
    CHECK_INT(azure_dps_tpm_get_authentication_key(&assignment, &kept), AZURE_DPS_OK);
    CHECK_STR(kept, key);
}

static void a_tpm_that_refuses_ends_the_run(void)
{
    chip tpm = {"", 0};
    device device;
    toaster(&device);
    azure_dps_signer signer = {&tpm, chip_sign, NULL, chip_activate};
    device.signer = signer;
    device.config.attestation = AZURE_DPS_TPM;
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_OK);
    peer peer;
    memset(&peer, 0, sizeof peer);
    peer.answers[0] = http("401 Unauthorized", "", "{\"authenticationKey\":\"bm90IGEga2V5\"}");
    peer.answers_len = 1;
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_TPM);
    azure_dps_error error = error_of(&device);
    CHECK_INT(error.io_error, -7);
    CHECK_INT(tpm.signatures, 0);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(from_the_factory_to_another_hub);
    RUN(a_hub_that_refuses_a_device_that_dps_sends_there);
    RUN(without_the_look_up_the_device_registers);
    RUN(a_torn_record_costs_a_look_up);
    RUN(an_unreachable_hub_is_tried_for_its_patience);
    RUN(pauses_survive_a_reboot);
    RUN(the_key_that_was_accepted_is_the_first_one_later);
    RUN(an_issued_certificate_is_in_the_record);
    RUN(a_tpm_is_challenged_and_keeps_the_key_for_the_hub);
    RUN(a_tpm_that_refuses_ends_the_run);
    return finish();
}
