/* TPM attestation: a challenge, then a signed register request. The TPM is a script. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static const uint8_t ENDORSEMENT_KEY[] = "\x00\x04"
                                         "EK: not a real one";
static const uint8_t STORAGE_ROOT_KEY[] = "\x00\x05"
                                          "SRK?>";

typedef struct fake_tpm {
    azure_dps_client *dps;
    int32_t result;
    unsigned activations, refusals;
    uint8_t key;
    char duplicate[32];
} fake_tpm;

static int32_t tpm_activate(void *ctx, azure_dps_str challenge)
{
    fake_tpm *tpm = (fake_tpm *)ctx;
    uint8_t buffer[1024];
    azure_dps_tpm_encrypted_key key;
    uint32_t wait;
    tpm->refusals += azure_dps_step(tpm->dps, 0, &wait) == AZURE_DPS_ERR_HANDLE;
    if (tpm->result != 0) {
        return tpm->result;
    }
    CHECK_INT(azure_dps_tpm_decode(challenge, buffer, sizeof buffer, NULL, &key), AZURE_DPS_OK);
    snprintf(tpm->duplicate, sizeof tpm->duplicate, "%.*s", (int)key.duplicate.len,
             (const char *)key.duplicate.ptr);
    tpm->key = key.duplicate.ptr[0];
    tpm->activations++;
    return 0;
}

static int32_t tpm_sign(void *ctx, const uint8_t *message, size_t len, uint8_t *signature)
{
    (void)message;
    CHECK(len > 0);
    memset(signature, ((const fake_tpm *)ctx)->key, 32);
    return 0;
}

/* Six parts with their lengths, as the C SDK reads them. */
static uint8_t *blob(const char *duplicate, size_t *len)
{
    uint8_t secret[256], seed[256];
    const struct {
        const void *bytes;
        size_t len;
    } parts[] = {{"id object", 9}, {secret, 256}, {duplicate, strlen(duplicate)},
                 {seed, 256},      {"public", 6}, {"", 0}};
    uint8_t *bytes = (uint8_t *)exact(1024);
    memset(secret, 7, sizeof secret);
    memset(seed, 8, sizeof seed);
    *len = 0;
    for (size_t i = 0; i < 6; i++) {
        bytes[(*len)++] = (uint8_t)(parts[i].len >> 8);
        bytes[(*len)++] = (uint8_t)parts[i].len;
        memcpy(bytes + *len, parts[i].bytes, parts[i].len);
        *len += parts[i].len;
    }
    return bytes;
}

static const char *challenge(const char *duplicate)
{
    size_t len = 0;
    uint8_t *bytes = blob(duplicate, &len);
    return format(
        "{\"message\":\"Authorization required.\",\"authenticationKey\":\"%s\",\"keyName\":\"registration\"}",
        base64(bytes, len));
}

static void with_tpm(device *device, fake_tpm *tpm)
{
    certified(device, "mydevice");
    memset(tpm, 0, sizeof *tpm);
    tpm->dps = &device->dps;
    device->config.attestation = AZURE_DPS_TPM;
    azure_dps_bytes endorsement = {ENDORSEMENT_KEY, sizeof ENDORSEMENT_KEY - 1};
    azure_dps_bytes storage = {STORAGE_ROOT_KEY, sizeof STORAGE_ROOT_KEY - 1};
    device->config.endorsement_key = endorsement;
    device->config.storage_root_key = storage;
    device->config.payload = exact_str(PAYLOAD);
    azure_dps_signer signer = {tpm, tpm_sign, NULL, tpm_activate};
    device->signer = signer;
    start(device);
}

static const char *assigned_here(void)
{
    return replace(replace(assigned(), TOASTER, "mydevice"), TOASTER, "mydevice");
}

/* Activates the key of the challenge, and signs. */
static void activate(device *device)
{
    CHECK_INT(step(device, 0), AZURE_DPS_ACTIVATE);
    CHECK_INT(azure_dps_tpm_activate(&device->dps, &device->signer, device->buffer, sizeof device->buffer),
              AZURE_DPS_OK);
    sign(device, 0);
}

static void challenge_then_signed_register_then_polls(void)
{
    device device;
    fake_tpm tpm;
    with_tpm(&device, &tpm);
    const char *first = request(&device, 0);
    const char *body = format(
        "{\"registrationId\":\"mydevice\",\"tpm\":{\"endorsementKey\":\"%s\",\"storageRootKey\":\"%s\"},"
        "\"payload\":" PAYLOAD "}",
        base64(ENDORSEMENT_KEY, sizeof ENDORSEMENT_KEY - 1),
        base64(STORAGE_ROOT_KEY, sizeof STORAGE_ROOT_KEY - 1));
    CHECK(ends_with(first, body));
    CHECK(!contains(first, "Authorization"));
    CHECK_INT(answer(&device, 0, http("401 Unauthorized", "", challenge("A key")), 50, NULL), 1);
    activate(&device);
    CHECK_INT(tpm.activations, 1);
    CHECK_INT(tpm.refusals, 1);
    CHECK_STR(str(tpm.duplicate), "A key");
    const char *second = request(&device, 0);
    uint8_t signature[32];
    memset(signature, 'A', sizeof signature);
    CHECK(contains(second, format("&sig=%s&", replace(base64(signature, 32), "=", "%3D"))));
    CHECK(contains(second, "sr=" SCOPE "%2fregistrations%2fmydevice&"));
    CHECK(contains(second, "&skn=registration\r\n"));
    CHECK(ends_with(second, body));
    CHECK_INT(answer(&device, 0, http("202 Accepted", "Retry-After: 3\r\n", assigning()), 1000, NULL), 1);
    CHECK_INT(wait_of(&device, 0), 3000);
    exchange(&device, 3000, "200 OK", "", assigned_here());
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    /* A new run begins without a token. */
    CHECK_INT(azure_dps_start(&device.dps, 0, UNIX_TIME), AZURE_DPS_OK);
    CHECK(!contains(request(&device, 0), "Authorization"));
    azure_dps_deinit(&device.dps);
}

static void run_does_all_of_it(void)
{
    device device;
    fake_tpm tpm;
    peer peer;
    with_tpm(&device, &tpm);
    memset(&peer, 0, sizeof peer);
    peer.answers[0] = http("401 Unauthorized", "", challenge("1"));
    peer.answers[1] = http("401 Unauthorized", "", challenge("2"));
    peer.answers[2] = http("200 OK", "", assigned_here());
    peer.answers_len = 3;
    CHECK_INT(run(&device, &peer), AZURE_DPS_OK);
    CHECK_INT(peer.requests, 3);
    CHECK_INT(tpm.activations, 2);
    CHECK_INT(tpm.refusals, 2);
    CHECK_STR(str(tpm.duplicate), "2");
    /* A third challenge counts as a rejection. */
    peer.next = 0;
    peer.answers[2] = http("401 Unauthorized", "", challenge("3"));
    CHECK_INT(run(&device, &peer), AZURE_DPS_ERR_REFUSED);
    CHECK_INT(error_of(&device).http_status, 401);
    CHECK_INT(error_of(&device).fault, AZURE_DPS_FAULT_CREDENTIAL);
    azure_dps_deinit(&device.dps);
}

static void without_a_callback(void)
{
    device device;
    fake_tpm tpm;
    azure_dps_str found = {NULL, 0};
    with_tpm(&device, &tpm);
    exchange(&device, 0, "401 Unauthorized", "", challenge("key"));
    CHECK_INT(azure_dps_tpm_on_activated(&device.dps), AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(step(&device, 0), AZURE_DPS_ACTIVATE);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, device.buffer, sizeof device.buffer, &found),
              AZURE_DPS_OK);
    CHECK(contains(challenge("key"), format("\"%.*s\"", (int)found.len, found.ptr)));
    CHECK(found.ptr > (const char *)device.buffer &&
          found.ptr < (const char *)device.buffer + sizeof device.buffer);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, NULL, 0, &found), AZURE_DPS_ERR_WRONG_BUFFER);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, NULL, 1, &found), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, device.buffer, sizeof device.buffer, NULL),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_activate(&device.dps, NULL, device.buffer, sizeof device.buffer),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_activate(&device.dps, &device.signer, NULL, 0), AZURE_DPS_ERR_WRONG_BUFFER);
    CHECK_INT(step(&device, 0), AZURE_DPS_ACTIVATE);
    CHECK_INT(azure_dps_tpm_on_activated(&device.dps), AZURE_DPS_OK);
    CHECK_INT(azure_dps_tpm_on_activated(&device.dps), AZURE_DPS_ERR_NOT_DUE);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, device.buffer, sizeof device.buffer, &found),
              AZURE_DPS_ERR_NOT_DUE);
    sign(&device, 0);
    exchange(&device, 0, "200 OK", "", assigned_here());
    CHECK_INT(result_of(&device), AZURE_DPS_OK);
    azure_dps_deinit(&device.dps);
    CHECK_INT(azure_dps_tpm_on_activated(&device.dps), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_tpm_get_challenge(&device.dps, device.buffer, 9, &found), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_tpm_activate(&device.dps, &device.signer, device.buffer, 9), AZURE_DPS_ERR_HANDLE);
    CHECK_INT(azure_dps_tpm_on_activated(NULL), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_get_challenge(NULL, device.buffer, 9, &found), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_activate(NULL, &device.signer, device.buffer, 9), AZURE_DPS_ERR_ARGUMENT);
}

static void a_tpm_that_cannot_open_the_key_ends_the_run(void)
{
    for (int has_callback = 0; has_callback < 2; has_callback++) {
        device device;
        fake_tpm tpm;
        with_tpm(&device, &tpm);
        tpm.result = -77;
        if (!has_callback) {
            device.signer.activate = NULL;
        }
        exchange(&device, 0, "401 Unauthorized", "", challenge("key"));
        CHECK_INT(step(&device, 0), AZURE_DPS_ACTIVATE);
        CHECK_INT(azure_dps_tpm_activate(&device.dps, &device.signer, device.buffer, sizeof device.buffer),
                  AZURE_DPS_ERR_TPM);
        CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
        azure_dps_error error = error_of(&device);
        CHECK_INT(error.result, AZURE_DPS_ERR_TPM);
        CHECK_INT(error.io_error, has_callback ? -77 : 0);
        CHECK_INT(error.fault, AZURE_DPS_FAULT_CREDENTIAL);
        azure_dps_deinit(&device.dps);
    }
}

static void a_401_without_a_challenge_is_a_refusal(void)
{
    static const char *const bodies[] = {"{\"errorCode\":401000}", "{\"authenticationKey\":null}",
                                         "{\"authenticationKey\":7}", "{\"authenticationKey\":", ""};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        device device;
        fake_tpm tpm;
        row(bodies[i]);
        with_tpm(&device, &tpm);
        exchange(&device, 0, "401 Unauthorized", "", bodies[i]);
        CHECK_INT(step(&device, 0), AZURE_DPS_FINISHED);
        CHECK_INT(result_of(&device), AZURE_DPS_ERR_REFUSED);
        azure_dps_deinit(&device.dps);
    }
    /* These functions are for TPMs only, and not for MQTT. */
    device device;
    fake_tpm tpm;
    azure_dps_assignment assignment;
    char text[300];
    certified(&device, TOASTER);
    CHECK_INT(run_to(&device, "401 Unauthorized", challenge("key"), &assignment), AZURE_DPS_ERR_REFUSED);
    azure_dps_deinit(&device.dps);
    with_tpm(&device, &tpm);
    CHECK_INT(azure_dps_mqtt_write_password(&device.dps, text, sizeof text, NULL), AZURE_DPS_ERR_UNSUPPORTED);
    azure_dps_deinit(&device.dps);
}

static void the_concept_documents_result(void)
{
    device device;
    fake_tpm tpm;
    azure_dps_assignment assignment;
    azure_dps_str key = {NULL, 0};
    azure_dps_tpm_encrypted_key parts;
    uint8_t buffer[64];
    with_tpm(&device, &tpm);
    const char *printed = vector("concept-tpm-result.txt");
    exchange(&device, 0, "200 OK", "", printed);
    CHECK_INT(result_of(&device), AZURE_DPS_ERR_MALFORMED);
    const char *quoted = replace(printed, "\"status\": assigned", "\"status\": \"assigned\"");
    quoted = replace(replace(quoted, ": initial", ": \"initial"), "Assignment,", "Assignment\",");
    CHECK_INT(azure_dps_start(&device.dps, 0, 0), AZURE_DPS_OK);
    exchange(&device, 0, "200 OK", "", quoted);
    CHECK_INT(azure_dps_get_assignment(&device.dps, device.buffer, sizeof device.buffer, &assignment),
              AZURE_DPS_OK);
    CHECK_STR(assignment.assigned_hub, "myIotHub");
    CHECK_STR(assignment.device_id, "myDeviceId");
    CHECK_INT(azure_dps_tpm_get_authentication_key(&assignment, &key), AZURE_DPS_OK);
    CHECK_STR(key, "xxxx-encrypted-authentication-key-xxxxx");
    CHECK_INT(azure_dps_tpm_decode(key, buffer, sizeof buffer, NULL, &parts), AZURE_DPS_ERR_TPM);
    CHECK_INT(azure_dps_tpm_get_authentication_key(NULL, &key), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_get_authentication_key(&assignment, NULL), AZURE_DPS_ERR_ARGUMENT);
    assignment.registration_state = exact_str("{}");
    CHECK_INT(azure_dps_tpm_get_authentication_key(&assignment, &key), AZURE_DPS_ERR_NOT_FOUND);
    azure_dps_deinit(&device.dps);
}

static azure_dps_result decode(const char *text, size_t size, size_t *needed,
                               azure_dps_tpm_encrypted_key *parts)
{
    return azure_dps_tpm_decode(exact_str(text), exact(size == 0 ? 1 : size), size, needed, parts);
}

static void keys_are_split_within_their_bounds(void)
{
    size_t len = 0, needed = 0;
    uint8_t *bytes = blob("wrapped", &len);
    azure_dps_tpm_encrypted_key parts;
    CHECK_INT(decode(base64(bytes, len), 1024, NULL, &parts), AZURE_DPS_OK);
    CHECK_TEXT((const char *)parts.id_object.ptr, parts.id_object.len, "id object");
    CHECK_INT(parts.encrypted_secret.len, 256);
    CHECK_INT(parts.encrypted_secret.ptr[255], 7);
    CHECK_TEXT((const char *)parts.duplicate.ptr, parts.duplicate.len, "wrapped");
    CHECK_INT(parts.import_seed.len, 256);
    CHECK_INT(parts.import_seed.ptr[0], 8);
    CHECK_TEXT((const char *)parts.public_area.ptr, parts.public_area.len, "public");
    CHECK_INT(parts.data.len, 0);
    for (size_t cut = 0; cut < len; cut += cut < 20 ? 1 : 17) {
        row(format("%lu", (unsigned long)cut));
        CHECK_INT(decode(base64(bytes, cut), 1024, NULL, &parts), AZURE_DPS_ERR_TPM);
    }
    static const char *const wrong[] = {"=", "A", "AAA", "AA=A", "AAAA=", "AA==AAAA", "\xe2\x82\xac", "A A="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        row(wrong[i]);
        CHECK_INT(decode(wrong[i], 1024, NULL, &parts), AZURE_DPS_ERR_TPM);
    }
    /* The required size is sufficient, and at most two bytes too large. */
    CHECK_INT(decode(base64(bytes, len), 100, &needed, &parts), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK(needed >= len && needed - len < 3);
    CHECK_INT(decode(base64(bytes, len), needed, NULL, &parts), AZURE_DPS_OK);
    CHECK_INT(decode(base64(bytes, len), 0, &needed, &parts), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    azure_dps_str none = {NULL, 4};
    CHECK_INT(azure_dps_tpm_decode(none, bytes, 9, NULL, &parts), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_decode(str("AAAA"), NULL, 9, NULL, &parts), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_tpm_decode(exact_str(base64(bytes, len)), exact(1024), 1024, NULL, NULL),
              AZURE_DPS_ERR_ARGUMENT);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(challenge_then_signed_register_then_polls);
    RUN(run_does_all_of_it);
    RUN(without_a_callback);
    RUN(a_tpm_that_cannot_open_the_key_ends_the_run);
    RUN(a_401_without_a_challenge_is_a_refusal);
    RUN(the_concept_documents_result);
    RUN(keys_are_split_within_their_bounds);
    return finish();
}
