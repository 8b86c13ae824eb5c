/*
 * azure_dps_io over mbedTLS and the board's serial line. There is one line, so there is one connection for each
 * boot. This is enough if the service keeps the connection open, as the emulator does.
 */
#ifndef TLS_H
#define TLS_H

#include <azure_dps.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>

struct tls {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt roots;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    bool is_used;      /**< The line was used before. */
    uint32_t problems; /**< MBEDTLS_X509_BADCERT_*: the errors of the server's certificate. */
};

/** Trusts the CAs in `pem`. `pem` ends with a zero byte, which `len` counts. Returns 0, or mbedTLS's code. */
int tls_init(struct tls *tls, const unsigned char *pem, size_t len);

/** The callbacks of azure_dps_io. `ctx` is the struct tls. */
int32_t tls_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms);
int32_t tls_read(void *ctx, uint8_t *buffer, size_t size);
int32_t tls_write(void *ctx, const uint8_t *bytes, size_t len);
void tls_close(void *ctx);

#endif
