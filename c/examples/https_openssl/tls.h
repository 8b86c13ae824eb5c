/**
 * @file tls.h
 * One blocking TLS 1.2 connection with OpenSSL, for azure_dps_io. It has time-outs and does not use a proxy.
 * The system sets the time-out for the DNS query.
 */
#ifndef TLS_H
#define TLS_H

#include <azure_dps.h>
#include <openssl/ssl.h>

/** A connection. The run may open and close it several times. */
struct tls {
    SSL_CTX *context;
    SSL *ssl; /**< NULL: closed. */
};

/**
 * Reads the certificates. `ca_file` is PEM; NULL means the CAs of the system. `certificate` and `private_key`
 * are those of the device, in PEM, or NULL. On failure, prints the reason on stderr and returns false.
 */
bool tls_init(struct tls *tls, const char *ca_file, const char *certificate, const char *private_key);
void tls_free(struct tls *tls);

/* The callbacks of azure_dps_io. `ctx` is the struct tls. */
int32_t tls_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms);
int32_t tls_read(void *ctx, uint8_t *buffer, size_t size);
int32_t tls_write(void *ctx, const uint8_t *bytes, size_t len);
void tls_close(void *ctx);

#endif
