#include "session.h"

#include <stdio.h>
#include <string.h>

/* Texts of OpenSSL. A wrong certificate, of the server or in a file, is still wrong in the next attempt. */
static int on_tls_error(const char *text, size_t len, void *ctx)
{
    bool *is_untrusted = ctx;
    (void)len;
    if (strstr(text, "certificate") != NULL) *is_untrusted = true;
    fprintf(stderr, "TLS: %s", text);
    return 1;
}

int32_t session_open(struct session *session, const char *host, uint16_t port, const char *client_id,
                     const char *user_name, const char *password, uint32_t timeout_ms)
{
    char uri[300];
    bool is_untrusted = false;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    tls.trustStore = session->ca_file;
    tls.disableDefaultTrustStore = session->ca_file != NULL;
    tls.keyStore = session->certificate;
    tls.privateKey = session->private_key;
    tls.sslVersion = MQTT_SSL_VERSION_TLS_1_2;
    tls.enableServerCertAuth = 1;
    tls.verify = 1; /* The certificate must be for the host name. paho cannot check an IP address. */
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = &is_untrusted;
    options.ssl = &tls;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.cleansession = 1;
    options.keepAliveInterval = 60;
    options.connectTimeout = (int)(timeout_ms / 1000) + 1;
    options.username = user_name;
    options.password = password;

    snprintf(uri, sizeof uri, "ssl://%s:%u", host, port);
    int code = MQTTClient_create(&session->client, uri, client_id, MQTTCLIENT_PERSISTENCE_NONE, NULL);
    if (code != MQTTCLIENT_SUCCESS) {
        fprintf(stderr, "%s: paho's error %d\n", uri, code);
        session->client = NULL;
        return AZURE_DPS_ERR_CONNECT;
    }
    code = MQTTClient_connect(session->client, &options);
    if (code == MQTTCLIENT_SUCCESS) return 0;

    MQTTClient_destroy(&session->client);
    session->client = NULL;
    if (code > 0) return code;
    /* paho returns the same code for a certificate of another host and for an unreachable host. */
    fprintf(stderr, "%s: no session, paho's error %d\n", uri, code);
    return is_untrusted ? AZURE_DPS_ERR_UNTRUSTED : AZURE_DPS_ERR_CONNECT;
}

bool session_subscribe(struct session *session, const char *filter)
{
    return MQTTClient_subscribe(session->client, filter, 1) == MQTTCLIENT_SUCCESS;
}

bool session_publish(struct session *session, const char *topic, const void *body, size_t len)
{
    return MQTTClient_publish(session->client, topic, (int)len, body, 1, 0, NULL) == MQTTCLIENT_SUCCESS;
}

static void free_message(struct session *session)
{
    if (session->message == NULL) return;
    MQTTClient_freeMessage(&session->message);
    MQTTClient_free(session->topic);
    session->message = NULL;
}

int session_receive(struct session *session, uint32_t timeout_ms)
{
    char *topic = NULL;
    int topic_len = 0;
    MQTTClient_message *message = NULL;
    int code = MQTTClient_receive(session->client, &topic, &topic_len, &message, timeout_ms);
    if (message == NULL) return code == MQTTCLIENT_SUCCESS ? 0 : -1;
    free_message(session);
    session->topic = topic;
    session->topic_len = topic_len;
    session->message = message;
    return 1;
}

void session_close(struct session *session)
{
    free_message(session);
    if (session->client == NULL) return;
    MQTTClient_disconnect(session->client, 1000);
    MQTTClient_destroy(&session->client);
    session->client = NULL;
}
