#include "tls.h"

#include <mbedtls/net_sockets.h>

#include "board.h"

/* The maximum time of a read. The library checks its time-outs between reads. */
#define SLICE_MS 250u

static int line_send(void *ctx, const unsigned char *bytes, size_t len)
{
    (void)ctx;
    size_t sent = 0;
    while (sent < len && board_line_put(bytes[sent])) sent++;
    return sent > 0 || len == 0 ? (int)sent : MBEDTLS_ERR_SSL_WANT_WRITE;
}

static int line_receive(void *ctx, unsigned char *buffer, size_t size)
{
    (void)ctx;
    size_t received = 0;
    int byte;
    while (received < size && (byte = board_line_get()) >= 0) buffer[received++] = (unsigned char)byte;
    return received > 0 ? (int)received : MBEDTLS_ERR_SSL_WANT_READ;
}

static bool must_wait(int result)
{
    return result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* If `result` asks for a wait and there is time left, waits for a moment and returns true. */
static bool goes_on(int result, uint32_t start, uint32_t timeout_ms)
{
    if (!must_wait(result) || board_clock_ms() - start >= timeout_ms) return false;
    board_idle();
    return true;
}

int tls_init(struct tls *tls, const unsigned char *pem, size_t len)
{
    mbedtls_entropy_init(&tls->entropy);
    mbedtls_ctr_drbg_init(&tls->random);
    mbedtls_x509_crt_init(&tls->roots);
    mbedtls_ssl_config_init(&tls->config);
    mbedtls_ssl_init(&tls->ssl);
    tls->is_used = false;
    tls->problems = 0;
    int result = mbedtls_ctr_drbg_seed(&tls->random, mbedtls_entropy_func, &tls->entropy, NULL, 0);
    if (result == 0) result = mbedtls_x509_crt_parse(&tls->roots, pem, len);
    if (result == 0) {
        result = mbedtls_ssl_config_defaults(&tls->config, MBEDTLS_SSL_IS_CLIENT,
                                             MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    }
    if (result != 0) return result;
    mbedtls_ssl_conf_authmode(&tls->config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&tls->config, &tls->roots, NULL);
    mbedtls_ssl_conf_rng(&tls->config, mbedtls_ctr_drbg_random, &tls->random);
    return 0;
}

int32_t tls_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    struct tls *tls = ctx;
    const uint32_t start = board_clock_ms();
    (void)port; /* QEMU connects the line. */
    if (tls->is_used) return AZURE_DPS_ERR_CONNECT;
    tls->is_used = true;
    int result = mbedtls_ssl_setup(&tls->ssl, &tls->config);
    /* The name for SNI, and the name that the certificate must have. */
    if (result == 0) result = mbedtls_ssl_set_hostname(&tls->ssl, host);
    if (result == 0) {
        mbedtls_ssl_set_bio(&tls->ssl, NULL, line_send, line_receive, NULL);
        do {
            result = mbedtls_ssl_handshake(&tls->ssl);
        } while (goes_on(result, start, timeout_ms));
    }
    if (result == 0) return 0;
    if (result == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
        tls->problems = mbedtls_ssl_get_verify_result(&tls->ssl);
        result = AZURE_DPS_ERR_UNTRUSTED;
    }
    mbedtls_ssl_free(&tls->ssl);
    return result;
}

/* Returns the result for azure_dps_io. */
static int32_t outcome(int result)
{
    if (must_wait(result)) return AZURE_DPS_IO_AGAIN;
    if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return 0;
    return result;
}

int32_t tls_read(void *ctx, uint8_t *buffer, size_t size)
{
    struct tls *tls = ctx;
    const uint32_t start = board_clock_ms();
    int result;
    do {
        result = mbedtls_ssl_read(&tls->ssl, buffer, size);
    } while (goes_on(result, start, SLICE_MS));
    return outcome(result);
}

int32_t tls_write(void *ctx, const uint8_t *bytes, size_t len)
{
    struct tls *tls = ctx;
    const uint32_t start = board_clock_ms();
    int result;
    do {
        result = mbedtls_ssl_write(&tls->ssl, bytes, len);
    } while (goes_on(result, start, SLICE_MS));
    return outcome(result);
}

void tls_close(void *ctx)
{
    struct tls *tls = ctx;
    (void)mbedtls_ssl_close_notify(&tls->ssl);
    mbedtls_ssl_free(&tls->ssl);
}
