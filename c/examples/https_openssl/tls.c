#define _GNU_SOURCE
#include "tls.h"

#include <limits.h>
#include <netdb.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The maximum time of tls_read() and tls_write(). The library checks its time-outs between them. */
#define SLICE_MS 250

bool tls_init(struct tls *tls, const char *ca_file, const char *certificate, const char *private_key)
{
    /* A write to a closed connection returns an error and sends no signal. */
    signal(SIGPIPE, SIG_IGN);
    tls->ssl = NULL;
    tls->context = SSL_CTX_new(TLS_client_method());
    bool is_ready = tls->context != NULL &&
                    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) == 1 &&
                    (ca_file != NULL ? SSL_CTX_load_verify_file(tls->context, ca_file)
                                     : SSL_CTX_set_default_verify_paths(tls->context)) == 1;
    if (is_ready && certificate != NULL) {
        is_ready = SSL_CTX_use_certificate_chain_file(tls->context, certificate) == 1 &&
                   SSL_CTX_use_PrivateKey_file(tls->context, private_key, SSL_FILETYPE_PEM) == 1;
    }
    if (!is_ready) {
        ERR_print_errors_fp(stderr);
        tls_free(tls);
        return false;
    }
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    return true;
}

void tls_free(struct tls *tls)
{
    SSL_CTX_free(tls->context);
    tls->context = NULL;
}

/* Sets the time-out of each call on the socket. On Linux, connect() uses the time-out for sending. */
static void set_timeout(int socket_fd, uint32_t ms)
{
    struct timeval time = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};
    setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

/* Returns a connected socket, or -1. */
static int dial(const char *host, uint16_t port, uint32_t timeout_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char service[6];
    int socket_fd = -1;
    snprintf(service, sizeof service, "%u", port);
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed != 0) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(failed));
        return -1;
    }
    for (struct addrinfo *address = found; address != NULL && socket_fd < 0; address = address->ai_next) {
        socket_fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
        if (socket_fd < 0) continue;
        set_timeout(socket_fd, timeout_ms);
        if (connect(socket_fd, address->ai_addr, address->ai_addrlen) != 0) {
            close(socket_fd);
            socket_fd = -1;
        }
    }
    if (socket_fd < 0) perror(host);
    freeaddrinfo(found);
    return socket_fd;
}

static bool must_wait(const struct tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

int32_t tls_connect(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms)
{
    struct tls *tls = ctx;
    time_t give_up = time(NULL) + (time_t)(timeout_ms / 1000) + 1;
    int socket_fd = dial(host, port, timeout_ms);
    if (socket_fd < 0) return AZURE_DPS_ERR_CONNECT;
    set_timeout(socket_fd, SLICE_MS);
    tls->ssl = SSL_new(tls->context);
    /* The name for SNI, and the name that the certificate must have. */
    bool is_ready = tls->ssl != NULL && SSL_set_tlsext_host_name(tls->ssl, host) == 1 &&
                    SSL_set1_host(tls->ssl, host) == 1 && SSL_set_fd(tls->ssl, socket_fd) == 1;
    int connected = -1;
    if (is_ready) {
        do {
            connected = SSL_connect(tls->ssl);
        } while (connected != 1 && must_wait(tls, connected) && time(NULL) < give_up);
    }
    if (connected == 1) return 0;

    long verdict = tls->ssl != NULL ? SSL_get_verify_result(tls->ssl) : X509_V_OK;
    if (verdict != X509_V_OK) {
        fprintf(stderr, "%s: the certificate: %s\n", host, X509_verify_cert_error_string(verdict));
    } else {
        fprintf(stderr, "%s: the TLS handshake failed\n", host);
    }
    ERR_clear_error();
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    close(socket_fd);
    return verdict != X509_V_OK ? AZURE_DPS_ERR_UNTRUSTED : AZURE_DPS_ERR_CONNECT;
}

/* Returns the result for azure_dps_io of a read or a write that transferred no bytes. */
static int32_t nothing_moved(const struct tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return AZURE_DPS_IO_AGAIN;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : AZURE_DPS_ERR_STREAM;
}

int32_t tls_read(void *ctx, uint8_t *buffer, size_t size)
{
    struct tls *tls = ctx;
    int len = SSL_read(tls->ssl, buffer, size > INT_MAX ? INT_MAX : (int)size);
    return len > 0 ? len : nothing_moved(tls, len);
}

int32_t tls_write(void *ctx, const uint8_t *bytes, size_t len)
{
    struct tls *tls = ctx;
    int written = SSL_write(tls->ssl, bytes, len > INT_MAX ? INT_MAX : (int)len);
    if (written > 0) return written;
    int32_t reason = nothing_moved(tls, written);
    return reason == 0 ? AZURE_DPS_ERR_CLOSED : reason;
}

void tls_close(void *ctx)
{
    struct tls *tls = ctx;
    int socket_fd = SSL_get_fd(tls->ssl);
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    close(socket_fd);
}
