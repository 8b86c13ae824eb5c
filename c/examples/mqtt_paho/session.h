/**
 * @file session.h
 * An MQTT 3.1.1 session over TLS 1.2 with paho (MQTTClient), with DPS or with a hub.
 */
#ifndef SESSION_H
#define SESSION_H

#include <MQTTClient.h>
#include <azure_dps.h>

struct session {
    MQTTClient client; /**< NULL: closed. */
    const char *ca_file;
    const char *certificate;
    const char *private_key;
    /** The last message. Valid until the next one or session_close(). NULL: none. */
    MQTTClient_message *message;
    char *topic;
    int topic_len;
};

/**
 * Connects. Returns the return code of CONNACK (0 is success), or AZURE_DPS_ERR_UNTRUSTED or
 * _CONNECT. `password` is NULL for a device with a certificate.
 */
int32_t session_open(struct session *session, const char *host, uint16_t port, const char *client_id,
                     const char *user_name, const char *password, uint32_t timeout_ms);

/** Returns true if the server accepted the subscription. */
bool session_subscribe(struct session *session, const char *filter);

/** Publishes with QoS 1. Returns true if the message was sent. */
bool session_publish(struct session *session, const char *topic, const void *body, size_t len);

/** Waits for a message. Returns 1 if there is one, 0 after the time-out, -1 if the session was lost. */
int session_receive(struct session *session, uint32_t timeout_ms);

/** Closes the session, if it is open. */
void session_close(struct session *session);

#endif
