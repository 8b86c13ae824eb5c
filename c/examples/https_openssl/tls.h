/**
 * @file tls.h
 * One TLS 1.2 connection with OpenSSL, for azure_dps_io. Blocking, with time-outs; without a proxy. The
 * look-up of the host's name has the system's time-out.
 */
#ifndef TLS_H
#define TLS_H

#include <azure_dps.h>
#include <openssl/ssl.h>

/** A connection that is opened and closed as often as the run needs it. */
struct tls {
    SSL_CTX *context;
    SSL *ssl; /**< NULL: closed. */
};

/**
 * Reads the certificates. `ca_file` is PEM; NULL is what the system trusts. `certificate` and `private_key`
 * are the device's, PEM, or NULL. Returns false, and says why on stderr, if they cannot be used.
 */
bool tls_init(struct tls *tls, const char *ca_file, const char *certificate, const char *private_key);
void tls_free(struct tls *tls);

/* For azure_dps_io, with `ctx` a struct tls. */
int32_t tls_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms);
int32_t tls_read(void *ctx, uint8_t *buffer, size_t size);
int32_t tls_write(void *ctx, const uint8_t *bytes, size_t len);
void tls_close(void *ctx);

#endif
