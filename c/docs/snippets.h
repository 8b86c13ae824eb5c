/*
 * What the C examples of the pages take for granted. ci/snippets compiles each of them with it.
 */
#include <azure_dps.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The device of the examples. */
extern azure_dps_client dps;
extern azure_dps_key key;
extern azure_dps_key keys[2];
extern azure_dps_config config;
extern azure_dps_signer signer;
extern azure_dps_io io;
extern azure_dps_assignment assignment;
extern azure_dps_hub hub;
extern azure_dps_reprovisioning life;
extern uint8_t buffer[4096];
extern uint8_t record[4096];
extern size_t record_len;
extern uint64_t unix_time;
extern uint32_t wait_ms;
extern int32_t which_key;

/* The firmware's own functions. */
uint32_t now(void);
void delay(uint32_t ms);
void erase_and_write(const void *bytes, size_t len);
int32_t connect_to_hub(const azure_dps_assignment *assignment, int32_t which_key);
int32_t stay_at_hub(void);
extern void *secure_element;
int32_t secure_element_hmac(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);

/* An MQTT client. */
struct session {
    const char *topic;
    size_t topic_len;
    const uint8_t *message;
    size_t message_len;
    bool is_open;
};
int32_t session_open(struct session *session, const char *client_id, const char *user_name, const char *password);
bool session_subscribe(struct session *session, const char *filter);
bool session_publish(struct session *session, const char *topic, const uint8_t *body, size_t len);
int32_t session_receive(struct session *session, uint32_t timeout_ms);
void session_close(struct session *session);
azure_dps_result exchange(struct session *session);
void wait(struct session *session, uint32_t wait_ms);
