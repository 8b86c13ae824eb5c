/*
 * A device without an operating system on a Cortex-M3. It provisions over TLS 1.2. The arguments are on QEMU's
 * command line: a name, the host name of DPS, a file with the CA, a file with the device's key.
 */
#include <mbedtls/memory_buffer_alloc.h>
#include <mbedtls/platform_util.h>
#include <string.h>

#include "../semihosting.h"
#include "board.h"
#include "tls.h"

#define ID_SCOPE "0ne00002193"
#define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
#define PAYLOAD "{\"MyDeviceFirmwareVersion\":\"12.0.2.5\",\"MyDeviceProvisioningVersion\":\"1.0.0.0\"}"

static uint32_t clock_ms(void *ctx)
{
    (void)ctx;
    return board_clock_ms();
}

static void delay_ms(void *ctx, uint32_t ms)
{
    const uint32_t start = board_clock_ms();
    (void)ctx;
    /* The first tick may be over at once. */
    while (board_clock_ms() - start <= ms) board_idle();
}

static void print(const char *label, azure_dps_str text)
{
    char line[400];
    size_t len = text.len < sizeof line - 1 ? text.len : sizeof line - 1;
    for (size_t i = 0; i < len; i++) line[i] = text.ptr[i] < ' ' ? '?' : text.ptr[i];
    line[len] = '\0';
    semihosting_print(label);
    semihosting_print(line);
    semihosting_print("\n");
}

static void print_number(const char *label, uint32_t number)
{
    char digits[11];
    char *at = digits + sizeof digits - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    print(label, azure_dps_str_of(at));
}

static void print_problem(const struct tls *tls, uint32_t flag, const char *text)
{
    if ((tls->problems & flag) != 0) semihosting_print(text);
}

/* Returns the exit code: 0, or the absolute value of the library's error. */
static int provision(struct tls *tls, const char *host, azure_dps_key *key)
{
    static azure_dps_client dps;
    static uint8_t buffer[AZURE_DPS_HTTP_SIZE(sizeof ID_SCOPE - 1, sizeof REGISTRATION_ID - 1,
                                              sizeof PAYLOAD - 1, 400)];
    const azure_dps_config config = {
        .id_scope = azure_dps_str_of(ID_SCOPE),
        .registration_id = azure_dps_str_of(REGISTRATION_ID),
        .payload = azure_dps_str_of(PAYLOAD),
        .timeout_ms = 20000,
    };
    const azure_dps_io io = {
        .ctx = tls,
        .connect = tls_connect,
        .read = tls_read,
        .write = tls_write,
        .close = tls_close,
        .clock_ms = clock_ms,
        .delay_ms = delay_ms,
    };
    const azure_dps_signer signer = azure_dps_key_signer(key);
    azure_dps_assignment assignment;
    azure_dps_error error;

    azure_dps_result result = azure_dps_init(&dps, &config);
    if (result == AZURE_DPS_OK) result = azure_dps_set_endpoint(&dps, azure_dps_str_of(host));
    if (result == AZURE_DPS_OK) {
        result = azure_dps_run(&dps, board_unix_time(), &signer, buffer, sizeof buffer, &io);
    }
    if (result == AZURE_DPS_OK) {
        result = azure_dps_get_assignment(&dps, buffer, sizeof buffer, &assignment);
    }
    if (result == AZURE_DPS_OK) {
        print("hub:     ", assignment.assigned_hub);
        print("device:  ", assignment.device_id);
        if (assignment.payload.ptr != NULL) print("payload: ", assignment.payload);
    } else {
        print("error:   ", azure_dps_str_of(azure_dps_result_name(result)));
        if (azure_dps_get_error(&dps, &error) == result) {
            if (error.http_status != 0) print_number("status:  ", error.http_status);
            if (error.code != 0) print_number("code:    ", error.code);
        }
        print_problem(tls, MBEDTLS_X509_BADCERT_NOT_TRUSTED, "the certificate is not of a trusted CA\n");
        print_problem(tls, MBEDTLS_X509_BADCERT_CN_MISMATCH, "the certificate is for another name\n");
        print_problem(tls, MBEDTLS_X509_BADCERT_EXPIRED, "the certificate has expired\n");
    }
    azure_dps_deinit(&dps);
    mbedtls_platform_zeroize(buffer, sizeof buffer); /* It may contain the token. */
    return result == AZURE_DPS_OK ? 0 : -(int)result;
}

int main(void)
{
    static struct tls tls;
    static unsigned char heap[40 * 1024];
    static unsigned char pem[4096];
    static char line[512];
    char *words[4], text[200];
    azure_dps_key key;
    size_t used, blocks;

    board_stack_mark();
    board_start();
    if (board_words(line, sizeof line, words, 4) != 4) {
        semihosting_print("the words are: NAME HOST CA-FILE KEY-FILE\n");
        return 2;
    }
    mbedtls_memory_buffer_alloc_init(heap, sizeof heap);
    /* A product has both in flash. */
    size_t len = board_read_file(words[2], pem, sizeof pem - 1);
    if (tls_init(&tls, pem, len + 1) != 0) {
        semihosting_print("the CA cannot be read, or there is no randomness\n");
        return 2;
    }
    azure_dps_str base64 = {text, board_read_file(words[3], text, sizeof text)};
    while (base64.len > 0 && text[base64.len - 1] <= ' ') base64.len--;
    const azure_dps_result result = azure_dps_key_from_base64(&key, base64);
    mbedtls_platform_zeroize(text, sizeof text);
    if (result != AZURE_DPS_OK) {
        semihosting_print("the key cannot be read\n");
        return 2;
    }
    const int code = provision(&tls, words[1], &key);
    azure_dps_key_wipe(&key);
    mbedtls_memory_buffer_alloc_max_get(&used, &blocks);
    print_number("stack:   ", board_stack_used());
    print_number("heap:    ", (uint32_t)used);
    return code;
}
