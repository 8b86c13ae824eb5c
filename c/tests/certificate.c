/* A certificate issued with the assignment: the request, and the chain in any order. */
#include <stdio.h>
#include <string.h>

#include "certificates.h"
#include "support.h"

static azure_dps_bytes csr_of(const uint8_t *der, size_t len)
{
    uint8_t *copy = (uint8_t *)exact(len == 0 ? 1 : len);
    memcpy(copy, der, len);
    azure_dps_bytes csr = {copy, len};
    return csr;
}

/* A device that was assigned with this chain, in JSON. */
static void issued(device *device, const char *chain, azure_dps_assignment *assignment)
{
    certified(device, TOASTER);
    const char *body =
        replace(assigned(), "\"payload\":", format("\"issuedCertificateChain\":%s,\"payload\":", chain));
    CHECK_INT(run_to(device, "200 OK", body, assignment), AZURE_DPS_OK);
}

static const char *leaf_in_base64(void)
{
    return base64(LEAF_DER, sizeof LEAF_DER);
}

static const char *root_in_base64(void)
{
    return base64(ROOT_DER, sizeof ROOT_DER);
}

static void a_request_with_a_csr_uses_an_api_version_with_csr(void)
{
    device device;
    char text[200];
    toaster(&device);
    device.config.csr = csr_of(CSR_DER, sizeof CSR_DER);
    begin(&device);
    const char *first = request(&device, 0);
    CHECK(ends_with(first, format("\r\n\r\n{\"registrationId\":\"" TOASTER
                                  "\",\"csr\":\"%s\",\"payload\":" PAYLOAD "}",
                                  base64(CSR_DER, sizeof CSR_DER))));
    CHECK(contains(first, "/register?api-version=2026-11-01 "));
    CHECK_INT(azure_dps_mqtt_write_user_name(&device.dps, text, sizeof text, NULL), AZURE_DPS_OK);
    CHECK(contains(text, "/api-version=2026-11-01&"));
    azure_dps_deinit(&device.dps);
    device.config.api_version = exact_str("2025-07-01-preview");
    begin(&device);
    CHECK(contains(request(&device, 0), "/register?api-version=2025-07-01-preview "));
    azure_dps_deinit(&device.dps);
    /* A look-up does not send the csr. */
    device.config.api_version = exact_str("");
    device.config.lookup = 1;
    begin(&device);
    first = request(&device, 0);
    CHECK(!contains(first, "csr") && contains(first, "?api-version=2021-06-01 "));
    azure_dps_deinit(&device.dps);
}

static void a_csr_is_one_document_in_der(void)
{
    device device;
    certified(&device, TOASTER);
    for (size_t len = 1; len < sizeof CSR_DER; len++) {
        device.config.csr = csr_of(CSR_DER, len);
        CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_ERR_INVALID_CSR);
        CHECK_INT(result_of(&device), AZURE_DPS_ERR_INVALID_CSR);
        azure_dps_deinit(&device.dps);
    }
    uint8_t more[sizeof CSR_DER + 1] = {0};
    memcpy(more, CSR_DER, sizeof CSR_DER);
    device.config.csr = csr_of(more, sizeof more);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_ERR_INVALID_CSR);
    device.config.csr = csr_of(LEAF_DER, sizeof LEAF_DER);
    CHECK_INT(azure_dps_init(&device.dps, &device.config), AZURE_DPS_ERR_INVALID_CSR);
}

static void the_leaf_has_the_devices_key_and_may_have_any_position(void)
{
    const char *const chains[] = {
        format("[\"%s\",\"%s\"]", leaf_in_base64(), root_in_base64()),
        format("[\"%s\",\"%s\"]", root_in_base64(), leaf_in_base64()),
        format("[\"%s\"]", leaf_in_base64()),
        format("[7,null,\"not base64\",{},\"\",\"%s\",\"%s\"]", root_in_base64(), leaf_in_base64()),
    };
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        device device;
        azure_dps_assignment assignment;
        uint8_t buffer[1024];
        size_t len = 0;
        row(format("%lu", (unsigned long)i));
        issued(&device, chains[i], &assignment);
        CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr_of(CSR_DER, sizeof CSR_DER), buffer,
                                                   sizeof buffer, &len),
                  AZURE_DPS_OK);
        CHECK_INT(len, sizeof LEAF_DER);
        CHECK_BYTES(buffer, LEAF_DER, sizeof LEAF_DER);
        azure_dps_deinit(&device.dps);
    }
}

static void the_chain_is_decoded_one_by_one(void)
{
    device device;
    azure_dps_assignment assignment;
    uint8_t buffer[1024];
    size_t len = 0;
    issued(&device, format("[\"%s\",\"%s\"]", leaf_in_base64(), root_in_base64()), &assignment);
    CHECK_INT(azure_dps_certificate_write(&assignment, 0, buffer, sizeof buffer, &len), AZURE_DPS_OK);
    CHECK_INT(len, sizeof LEAF_DER);
    CHECK_BYTES(buffer, LEAF_DER, sizeof LEAF_DER);
    CHECK_INT(azure_dps_certificate_write(&assignment, 1, buffer, sizeof buffer, &len), AZURE_DPS_OK);
    CHECK_INT(len, sizeof ROOT_DER);
    CHECK_BYTES(buffer, ROOT_DER, sizeof ROOT_DER);
    CHECK_INT(azure_dps_certificate_write(&assignment, 2, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_NOT_FOUND);
    CHECK_INT(azure_dps_certificate_write(&assignment, SIZE_MAX, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_NOT_FOUND);
    azure_dps_deinit(&device.dps);

    CHECK_INT(run_to(&device, "200 OK", vector("registration-state-every-field.json"), &assignment),
              AZURE_DPS_OK);
    static const char *const parts[] = {"LEAF", "ICA", "ROOT"};
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(azure_dps_certificate_write(&assignment, i, buffer, sizeof buffer, &len), AZURE_DPS_OK);
        CHECK_TEXT((const char *)buffer, len, parts[i]);
    }
    azure_dps_deinit(&device.dps);
}

static void a_chain_without_the_devices_key_is_malformed(void)
{
    const char *const chains[] = {
        format("[\"%s\"]", root_in_base64()),
        format("[\"%s\"]", base64(CSR_DER, sizeof CSR_DER)),
        "[]",
        "[\"\"]",
        "[\"not base64\"]",
        "[7]",
        "[null]",
    };
    device device;
    azure_dps_assignment assignment;
    uint8_t buffer[1024];
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        row(chains[i]);
        issued(&device, chains[i], &assignment);
        CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr_of(CSR_DER, sizeof CSR_DER), buffer,
                                                   sizeof buffer, NULL),
                  AZURE_DPS_ERR_MALFORMED);
        azure_dps_deinit(&device.dps);
    }
    issued(&device, format("[\"%s\"]", leaf_in_base64()), &assignment);
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr_of(OTHER_CSR_DER, sizeof OTHER_CSR_DER),
                                               buffer, sizeof buffer, NULL),
              AZURE_DPS_ERR_MALFORMED);
    azure_dps_deinit(&device.dps);
    /* No chain. */
    static const char *const none[] = {"{\"leaf\":\"TEVBRg==\"}", "7", "\"TEVBRg==\"", "true", "null"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        row(none[i]);
        issued(&device, none[i], &assignment);
        CHECK_INT(azure_dps_certificate_write(&assignment, 0, buffer, sizeof buffer, NULL),
                  AZURE_DPS_ERR_NOT_FOUND);
        CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr_of(CSR_DER, sizeof CSR_DER), buffer,
                                                   sizeof buffer, NULL),
                  AZURE_DPS_ERR_NOT_FOUND);
        azure_dps_deinit(&device.dps);
    }
}

static void sizes_and_wrong_arguments(void)
{
    device device;
    azure_dps_assignment assignment;
    azure_dps_bytes csr = csr_of(CSR_DER, sizeof CSR_DER), no_csr = {NULL, 9}, empty = {NULL, 0};
    size_t len = 0, leaf = 0;
    issued(&device, format("[\"%s\",\"%s\"]", root_in_base64(), leaf_in_base64()), &assignment);
    CHECK_INT(azure_dps_certificate_write(&assignment, 0, NULL, 0, &len), AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK(len >= sizeof ROOT_DER && len - sizeof ROOT_DER < 3);
    CHECK_INT(
        azure_dps_certificate_write(&assignment, 0, exact(sizeof ROOT_DER - 1), sizeof ROOT_DER - 1, &leaf),
        AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK_INT(azure_dps_certificate_write(&assignment, 0, exact(len), len, NULL), AZURE_DPS_OK);
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr, exact(100), 100, &leaf),
              AZURE_DPS_ERR_BUFFER_TOO_SMALL);
    CHECK(leaf > 100);
    size_t more = leaf;
    for (int i = 0; i < 3; i++) {
        azure_dps_result result =
            azure_dps_certificate_write_leaf(&assignment, csr, exact(more), more, &leaf);
        if (result == AZURE_DPS_OK) {
            break;
        }
        CHECK_INT(result, AZURE_DPS_ERR_BUFFER_TOO_SMALL);
        CHECK(leaf > more);
        more = leaf;
    }
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr, exact(more), more, &leaf), AZURE_DPS_OK);
    CHECK_INT(leaf, sizeof LEAF_DER);

    uint8_t buffer[1024];
    CHECK_INT(azure_dps_certificate_write(NULL, 0, buffer, sizeof buffer, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_certificate_write(&assignment, 0, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_certificate_write_leaf(NULL, csr, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, no_csr, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_ARGUMENT);
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, empty, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_INVALID_CSR);
    CHECK_INT(azure_dps_certificate_write_leaf(&assignment, csr, NULL, 9, &len), AZURE_DPS_ERR_ARGUMENT);
    assignment.registration_state = exact_str("[]");
    CHECK_INT(azure_dps_certificate_write(&assignment, 0, buffer, sizeof buffer, &len),
              AZURE_DPS_ERR_MALFORMED);
    azure_dps_deinit(&device.dps);
}

int main(int argc, char **argv)
{
    support_begin(argc, argv);
    RUN(a_request_with_a_csr_uses_an_api_version_with_csr);
    RUN(a_csr_is_one_document_in_der);
    RUN(the_leaf_has_the_devices_key_and_may_have_any_position);
    RUN(the_chain_is_decoded_one_by_one);
    RUN(a_chain_without_the_devices_key_is_malformed);
    RUN(sizes_and_wrong_arguments);
    return finish();
}
