/**
 * @file azure_dps.h
 * Device-side client for the Azure IoT Hub Device Provisioning Service (DPS).
 *
 * The library is a state machine. It has no I/O, no clock, no allocator and no global state. The caller provides
 * all memory, TCP, TLS 1.2 and, for MQTT, an MQTT client. The header is for C99 and C++. Link with
 * `libazure_dps_c.a` of the same version.
 *
 * Over HTTP, one call does everything:
 *
 *     azure_dps_key_from_base64()     reads the device's key
 *     azure_dps_init()                sets the IDs of the device
 *     azure_dps_run()                 provisions the device, on a connection that your callbacks open
 *     azure_dps_get_assignment()      returns the hub, the device ID and the payload of the webhook
 *
 * In an event loop, or over MQTT, drive the state machine yourself:
 *
 *     azure_dps_start()
 *     for (;;) switch (azure_dps_step(&dps, now_ms, &wait_ms)) {
 *         case AZURE_DPS_SIGN:     azure_dps_sign(); over MQTT, close the session
 *         case AZURE_DPS_ACTIVATE: pass the challenge to the TPM; only with a TPM
 *         case AZURE_DPS_SEND:     connect, write the request, send it, pass in the answer
 *         case AZURE_DPS_WAIT:     wait for wait_ms
 *         case AZURE_DPS_FINISHED: azure_dps_get_assignment() or azure_dps_get_error()
 *         default:                 wrong use: the value is an AZURE_DPS_ERR_*
 *     }
 *
 * ## Sections
 *
 * | section | content |
 * |---|---|
 * | Results, Text and bytes | the codes and types of all functions |
 * | Keys, Signing | the device's key and its signer |
 * | The device, Sizes of buffers | the configuration, and the memory that it needs |
 * | A run | the state machine |
 * | Over MQTT; Over HTTP | functions for requests and answers. azure_dps_run() is at the end of Over HTTP |
 * | The outcome | the assignment, or the error |
 * | JSON, The hub, The twin, The record, The life after the first boot | functions for the time after a run |
 * | TPM, Certificates issued by the service | only with these features of the library |
 *
 * `c/README.md` shows how to use them together.
 *
 * ## Lifetimes
 *
 * - The texts of azure_dps_config are not copied. Keep them unchanged until azure_dps_deinit(). You may free the
 *   azure_dps_config itself after azure_dps_init().
 * - Do not copy or move an initialized azure_dps_client. A moved client returns AZURE_DPS_ERR_HANDLE.
 * - Results point into the body of the last answer: the start of the buffer over HTTP, the message over MQTT. Keep
 *   the body until you have read the result.
 * - Only one thread at a time may use a client or a key. Do not call a function on a client from one of its own
 *   callbacks. A callback must return: no longjmp(), no C++ exception.
 * - The output of a function must not overlap its input, unless its comment allows it.
 *
 * ## Conventions
 *
 * - A function that can fail returns azure_dps_result: AZURE_DPS_OK or a negative AZURE_DPS_ERR_*.
 * - A function that writes has a buffer, its size and a pointer to a length. `*len` is the length of the output.
 *   Text ends with a zero byte, which `*len` does not count. If the result is AZURE_DPS_ERR_BUFFER_TOO_SMALL, `*len`
 *   is the required size, including the zero byte.
 * - `now_ms` is the time of a monotonic clock in milliseconds, such as the time since boot. It may wrap, so a tick
 *   counter of 32 bits is enough. Use the same clock for all calls, and call within 49 days of the last call.
 * - `unix_time` is the wall clock in seconds.
 */
#ifndef AZURE_DPS_H
#define AZURE_DPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the functions and structures below. azure_dps_init() fails if the library has another version. */
#define AZURE_DPS_ABI 1u

#if defined(__GNUC__)
/** Marks functions whose result you must check. */
#define AZURE_DPS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define AZURE_DPS_MUST_CHECK
#endif

/* ---- Results ---------------------------------------------------------------------------------------- */

/** AZURE_DPS_OK or AZURE_DPS_ERR_*. Not an enum, because the size of an enum depends on compiler flags. */
typedef int32_t azure_dps_result;

#define AZURE_DPS_OK 0 /**< Success. */

/* Wrong use of this library. */
#define AZURE_DPS_ERR_ARGUMENT (-1)         /**< A pointer is NULL, a text is not UTF-8, or a number is out of range. */
#define AZURE_DPS_ERR_HANDLE (-2)           /**< Not initialized, moved, or in use by a callback. */
#define AZURE_DPS_ERR_ABI (-3)              /**< Header and library have different versions. */
#define AZURE_DPS_ERR_NOT_STARTED (-4)      /**< Call azure_dps_start() first. */
#define AZURE_DPS_ERR_NOT_DUE (-5)          /**< azure_dps_step() did not ask for this. */
#define AZURE_DPS_ERR_NOT_FINISHED (-6)     /**< The run has not finished. */
#define AZURE_DPS_ERR_WRONG_BUFFER (-7)     /**< The buffer does not hold the last answer. */
#define AZURE_DPS_ERR_BUFFER_TOO_SMALL (-8) /**< `*len`, or azure_dps_error.needed, is the required size. */
#define AZURE_DPS_ERR_UNSUPPORTED (-9)      /**< The library was built without this feature, or MQTT does not support it. */

/* Wrong input. */
#define AZURE_DPS_ERR_INVALID_ID_SCOPE (-10)        /**< See azure_dps_config. */
#define AZURE_DPS_ERR_INVALID_REGISTRATION_ID (-11) /**< See azure_dps_config. */
#define AZURE_DPS_ERR_INVALID_KEY (-12)             /**< Not base64 of 16 to 64 bytes. */
#define AZURE_DPS_ERR_INVALID_PAYLOAD (-13)         /**< Not one JSON object. */
#define AZURE_DPS_ERR_INVALID_ENDPOINT (-14)        /**< Not `host`, `host:port` or a URL of these. */
#define AZURE_DPS_ERR_INVALID_CSR (-15)             /**< Not one PKCS #10 document in DER. */
#define AZURE_DPS_ERR_INVALID_HUB (-16)             /**< Not a host name, or not a device ID. */
#define AZURE_DPS_ERR_REQUEST_TOO_LARGE (-17)       /**< The service accepts at most 96 KB. Nothing was sent. */
#define AZURE_DPS_ERR_SIGNER (-18)                  /**< azure_dps_signer.sign failed. */
#define AZURE_DPS_ERR_TPM (-19)                     /**< azure_dps_signer.activate failed, or the text is not an encrypted key. */
#define AZURE_DPS_ERR_RECORD_ABSENT (-20)           /**< The bytes are not a record. */
#define AZURE_DPS_ERR_RECORD_TORN (-21)             /**< Bytes are missing or changed. */
#define AZURE_DPS_ERR_RECORD_LAYOUT (-22)           /**< Written by another version. */
#define AZURE_DPS_ERR_RECORD_FOREIGN (-23)          /**< The record of another device or ID scope. */
#define AZURE_DPS_ERR_RECORD_IMPOSSIBLE (-24)       /**< The record is complete, but has no valid assignment. */
#define AZURE_DPS_ERR_NOT_FOUND (-25)               /**< There is no such member, or no such certificate. */

/* How a run ends. */
#define AZURE_DPS_ERR_REFUSED (-30)         /**< The service rejected the request: see http_status and code. */
#define AZURE_DPS_ERR_FAILED (-31)          /**< The registration failed: see code. */
#define AZURE_DPS_ERR_DISABLED (-32)        /**< The enrollment is disabled. */
#define AZURE_DPS_ERR_UNASSIGNED (-33)      /**< A look-up found a registration without a hub. */
#define AZURE_DPS_ERR_STILL_ASSIGNING (-34) /**< Not assigned within azure_dps_config.timeout_ms. */
#define AZURE_DPS_ERR_OPERATION_LOST (-35)  /**< The service lost the registration twice. */
#define AZURE_DPS_ERR_TIMED_OUT (-36)       /**< No answer within azure_dps_config.timeout_ms. */
#define AZURE_DPS_ERR_MALFORMED (-37)       /**< The answer is not from DPS (check for a proxy or a portal), or JSON of another kind. */
#define AZURE_DPS_ERR_UNTRUSTED (-40)       /**< The server's certificate is not trusted. */
#define AZURE_DPS_ERR_PROXY_REFUSED (-41)   /**< A proxy rejects the device. */
#define AZURE_DPS_ERR_CONNECT (-42)         /**< The connection failed. */
#define AZURE_DPS_ERR_CLOSED (-43)          /**< The server closed the connection before the answer was complete. */
#define AZURE_DPS_ERR_STALLED (-44)         /**< No answer within azure_dps_config.request_timeout_ms. */
#define AZURE_DPS_ERR_STREAM (-45)          /**< A read or write failed for another reason. */
#define AZURE_DPS_ERR_OTHER (-99)           /**< An error without a name in this version of the header. */

/* Who must act: azure_dps_error.fault. */
#define AZURE_DPS_FAULT_CALLER 1     /**< Fix the firmware or its configuration. */
#define AZURE_DPS_FAULT_CREDENTIAL 2 /**< Check the key and the device's clock. */
#define AZURE_DPS_FAULT_REFUSED 3    /**< The operator must act: enrollment, webhook, hub. */
#define AZURE_DPS_FAULT_BUSY 4       /**< The service is busy. Try again later. */
#define AZURE_DPS_FAULT_PEER 5       /**< The server is not DPS, but a proxy or a portal, or its certificate is not trusted. */
#define AZURE_DPS_FAULT_TRANSPORT 6  /**< The network failed. Try again later. */

/** The error of a run, or of azure_dps_init(). */
typedef struct azure_dps_error {
    azure_dps_result result; /**< The code that the function returned. */
    uint32_t code;           /**< The service's six-digit code, such as 401000. 0 if there is none. */
    uint32_t needed;         /**< BUFFER_TOO_SMALL: the required size. REQUEST_TOO_LARGE: the size of the request. Else 0. */
    uint32_t position;       /**< INVALID_*, MALFORMED: the offset of the first wrong byte, if known. */
    int32_t io_error;        /**< The number that a callback of azure_dps_io or azure_dps_signer returned. 0 if none failed. */
    uint16_t http_status;    /**< The HTTP status of the answer, also over MQTT. 0 if there was no answer. */
    uint8_t fault;           /**< AZURE_DPS_FAULT_* */
    uint8_t retryable;       /**< 1 if a new run may succeed later without a change. */
    char tracking_id[37];    /**< For a support request to Microsoft. "" if there is none. */
} azure_dps_error;

/** Returns the name of a result, such as "AZURE_DPS_ERR_UNTRUSTED". The text is static and never NULL. */
const char *azure_dps_result_name(azure_dps_result result);

/* ---- Text and bytes --------------------------------------------------------------------------------- */

/** A text of `len` bytes in UTF-8. It needs no terminating zero. */
typedef struct azure_dps_str {
    const char *ptr; /**< May be NULL if `len` is 0. */
    size_t len;      /**< In bytes. */
} azure_dps_str;

/** A number of bytes. */
typedef struct azure_dps_bytes {
    const uint8_t *ptr; /**< May be NULL if `len` is 0. */
    size_t len;         /**< The number of bytes. */
} azure_dps_bytes;

/** Returns a zero-terminated text as azure_dps_str. For NULL, returns an empty text. */
static inline azure_dps_str azure_dps_str_of(const char *text)
{
    azure_dps_str str = {text, text == NULL ? 0 : strlen(text)};
    return str;
}

/** Copies a text and adds a zero byte. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_str_copy(azure_dps_str str, char *buffer, size_t size, size_t *len);

/* ---- Keys ------------------------------------------------------------------------------------------- */

/** The memory of one symmetric key. Do not move it. Wipe it after use with azure_dps_key_wipe(). */
typedef struct azure_dps_key {
    uint64_t opaque[9]; /**< Private. */
} azure_dps_key;

/** Reads the device's key from base64, as the portal shows it. If the text is not a key, `key` is wiped. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_from_base64(azure_dps_key *key, azure_dps_str base64);

/**
 * Derives the device's key from the key of its enrollment group.
 *
 * Use this function in the factory and in tests. Do not put a group key into firmware: an attacker who reads it can
 * provision every device of the group.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_derive(azure_dps_key *key, azure_dps_str group_key_base64,
                                                           azure_dps_str registration_id);

/** Writes the key as base64: 24 to 88 characters. The text is a secret. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_write_base64(const azure_dps_key *key, char *buffer, size_t size,
                                                                 size_t *len);

/** Overwrites the key. Then you may free its memory. */
void azure_dps_key_wipe(azure_dps_key *key);

/* ---- Signing ---------------------------------------------------------------------------------------- */

/**
 * A signer: software, a secure element or a TPM that has the device's key. A device with an X.509 certificate has no
 * signer: pass NULL.
 *
 * A callback returns 0, or any other number if it fails. Then the run ends with AZURE_DPS_ERR_SIGNER or
 * AZURE_DPS_ERR_TPM, and azure_dps_error.io_error is the number.
 */
typedef struct azure_dps_signer {
    /** Passed to the callbacks. */
    void *ctx;
    /** Writes HMAC-SHA256(primary key, message) into `signature`: 32 bytes. */
    int32_t (*sign)(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);
    /** Does the same with the secondary key. NULL if there is only one key. */
    int32_t (*sign_with_secondary_key)(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);
    /** Loads the key in `challenge`, which is base64 for azure_dps_tpm_decode(). NULL if there is no TPM. */
    int32_t (*activate)(void *ctx, azure_dps_str challenge);
} azure_dps_signer;

/** Signs with a key: `ctx` points to an azure_dps_key. For azure_dps_signer.sign. */
int32_t azure_dps_key_sign(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);

/** Signs with the second of two keys: `ctx` points to an array of two azure_dps_key. */
int32_t azure_dps_key_sign_second(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);

/** Returns a signer with one key in memory. Keep the key as long as the signer. */
static inline azure_dps_signer azure_dps_key_signer(azure_dps_key *key)
{
    azure_dps_signer signer = {key, azure_dps_key_sign, NULL, NULL};
    return signer;
}

/** Returns a signer with an array of two keys in memory: the primary and the secondary key. */
static inline azure_dps_signer azure_dps_two_keys_signer(azure_dps_key *keys)
{
    azure_dps_signer signer = {keys, azure_dps_key_sign, azure_dps_key_sign_second, NULL};
    return signer;
}

/* ---- The device ------------------------------------------------------------------------------------- */

/* azure_dps_config.attestation */
#define AZURE_DPS_SYMMETRIC_KEY 0 /**< The signer has the key. */
#define AZURE_DPS_X509 1          /**< The TLS connection presents the certificate. */
#define AZURE_DPS_TPM 2           /**< HTTP only. Feature `tpm`. */

/* azure_dps_config.first_key, azure_dps_get_key() */
#define AZURE_DPS_PRIMARY_KEY 0   /**< azure_dps_signer.sign */
#define AZURE_DPS_SECONDARY_KEY 1 /**< azure_dps_signer.sign_with_secondary_key */

/**
 * The configuration of a device. Zero means: absent, or the default. Begin with `azure_dps_config config = {0};`. The
 * comments end with the default of a number.
 */
typedef struct azure_dps_config {
    azure_dps_str id_scope;            /**< Required. 1 to 64 letters, digits, `-._`. */
    azure_dps_str registration_id;     /**< Required. 1 to 128 lower-case letters, digits, `-._:`. */
    azure_dps_str payload;             /**< One JSON object for the webhook. */
    azure_dps_bytes csr;               /**< A PKCS #10 document in DER. Feature `csr`. */
    azure_dps_bytes endorsement_key;   /**< TPM: the public area, TPM2B_PUBLIC. */
    azure_dps_bytes storage_root_key;  /**< TPM: the public area, TPM2B_PUBLIC. */
    azure_dps_str api_version;         /**< The default is "2021-06-01", with a csr "2026-11-01". */
    uint32_t timeout_ms;               /**< The maximum duration of a run. 600 000. */
    uint32_t request_timeout_ms;       /**< The maximum time for a request and its answer. 60 000. */
    uint32_t poll_interval_ms;         /**< The time between polls for answers without Retry-After. 3 000. */
    uint32_t token_lifetime_s;         /**< The lifetime of a token. 3 600. */
    uint32_t max_body;                 /**< The maximum length of a request's body, in bytes. 98 304. */
    uint32_t jitter_seed;              /**< Any number that differs from device to device. */
    uint8_t max_retries;               /**< The maximum number of retries in a row without an answer. 8. */
    uint8_t attestation;               /**< AZURE_DPS_SYMMETRIC_KEY, _X509 or _TPM. */
    uint8_t first_key;                 /**< AZURE_DPS_PRIMARY_KEY or _SECONDARY_KEY. */
    uint8_t lookup;                    /**< 1: look up the last assignment instead of registering. HTTP only. Feature `lookup`. */
} azure_dps_config;

/** The memory of one client, which provisions one device. */
typedef struct azure_dps_client {
#if UINTPTR_MAX > 0xFFFFFFFFu
    uint64_t opaque[75]; /**< Private. */
#else
    uint64_t opaque[60]; /**< Private. */
#endif
} azure_dps_client;

/** Called by azure_dps_init(), with values to check that the header and the library have the same version. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_init_abi(azure_dps_client *dps, const azure_dps_config *config,
                                                         uint32_t abi, uint32_t sizes);

/**
 * Initializes a client. Sends nothing. If the memory contains a client already, call azure_dps_deinit() first, because its
 * signature may remain in memory.
 *
 * If the result is AZURE_DPS_ERR_INVALID_*, azure_dps_get_error() returns the position of the first wrong byte.
 */
AZURE_DPS_MUST_CHECK static inline azure_dps_result azure_dps_init(azure_dps_client *dps,
                                                                   const azure_dps_config *config)
{
    return azure_dps_init_abi(dps, config, AZURE_DPS_ABI,
                              sizeof(azure_dps_client) << 16 | sizeof(azure_dps_config) << 8 | sizeof(azure_dps_error));
}

/**
 * Sets the address of the service: `host`, `host:port` or `https://host:port`. The default is
 * `global.azure-devices-provisioning.net`. The text is not copied. Call this function before azure_dps_start().
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_set_endpoint(azure_dps_client *dps, azure_dps_str endpoint);

/**
 * Writes the host name of the service, for your own connection. Sets `*port` only if the endpoint has another port than
 * 443: initialize it with AZURE_DPS_HTTPS_PORT or AZURE_DPS_MQTT_PORT.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_host(const azure_dps_client *dps, char *buffer, size_t size,
                                                           size_t *len, uint16_t *port);

/** Wipes the secrets of a client. Then you may free its memory. */
void azure_dps_deinit(azure_dps_client *dps);

/* ---- Sizes of buffers ------------------------------------------------------------------------------- */

/*
 * These macros compute the sizes of buffers at compile time:
 *
 *     #define ID_SCOPE "0ne00002193"
 *     #define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
 *     char password[AZURE_DPS_SAS_TOKEN_SIZE(sizeof ID_SCOPE - 1, sizeof REGISTRATION_ID - 1)];
 *
 * The arguments are lengths in characters, without a zero byte. A size counts the zero byte at the end of a text.
 *
 * - `id_scope`: use AZURE_DPS_ID_SCOPE_MAX if you do not know the length.
 * - `registration_id`: count each `:` as three characters, because a URL has `%3A` for it.
 * - `payload`: the length of azure_dps_config.payload, or 0. With a csr or a TPM, add AZURE_DPS_CSR_IN_BODY() or
 *   AZURE_DPS_TPM_IN_BODY().
 * - `returned`: the length of the optional parts of an answer. Add up the payload that the webhook returns, about 800
 *   bytes for X.509, about 1 200 bytes for a TPM, and four thirds of the length of issued certificates.
 * - `hub`: the length of azure_dps_assignment.assigned_hub, with its port if it has one.
 * - `device_id`: count each character except letters, digits and `-._~` as three.
 *
 * If your endpoint or api_version is longer than the default, add the difference: the default host name has 37
 * characters, the default api-version 10. The sizes of answers are sufficient for the fields that the service is known to
 * send, for a hub of 75 characters, and for a device ID as long as the registration ID. A longer answer ends the run with
 * AZURE_DPS_ERR_BUFFER_TOO_SMALL. Then azure_dps_error.needed is the required size.
 */

/** The version of the library. Some requests contain it. */
#define AZURE_DPS_VERSION "0.1.0"

#define AZURE_DPS_ID_SCOPE_MAX 64         /**< The maximum length of an ID scope. */
#define AZURE_DPS_REGISTRATION_ID_MAX 128 /**< The maximum length of a registration ID. */

/** The size for azure_dps_write_host() and azure_dps_hub_write_host(). */
#define AZURE_DPS_HOST_SIZE 254

/** The size for azure_dps_key_write_base64(). */
#define AZURE_DPS_KEY_BASE64_SIZE 89

/** The size for azure_dps_sign(), azure_dps_write_message() and azure_dps_mqtt_write_password(). */
#define AZURE_DPS_SAS_TOKEN_SIZE(id_scope, registration_id) \
    (sizeof "SharedAccessSignature sr=%2fregistrations%2f&skn=registration" + AZURE_DPS_SIGNED_SIZE_ + (id_scope) + \
     (registration_id))

/** The size for azure_dps_mqtt_write_user_name(). */
#define AZURE_DPS_MQTT_USER_NAME_SIZE(id_scope, registration_id) \
    (sizeof "/registrations//api-version=2021-06-01&ClientVersion=azure-dps%2F" AZURE_DPS_VERSION + (id_scope) + \
     (registration_id))

/** The size for azure_dps_mqtt_write_publish(). */
#define AZURE_DPS_MQTT_PUBLISH_SIZE(registration_id, payload) \
    AZURE_DPS_LARGER_(sizeof "$dps/registrations/PUT/iotdps-register/?$rid=65535" + \
                          AZURE_DPS_BODY_SIZE_(registration_id, payload), \
                      sizeof "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=65535&operationId=" + \
                          AZURE_DPS_OPERATION_ID_MAX_)

/** The size of the MQTT packet with an answer, for the buffer of the MQTT client. */
#define AZURE_DPS_MQTT_ANSWER_SIZE(registration_id, returned) \
    (sizeof "\xff\xff\xff\xff\xff\xff\xff$dps/registrations/res/200/?$rid=65535&retry-after=4294967295" - 1 + \
     AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** The size for azure_dps_run() and for the functions azure_dps_http_…(): one buffer for requests and answers. */
#define AZURE_DPS_HTTP_SIZE(id_scope, registration_id, payload, returned) \
    AZURE_DPS_LARGER_(AZURE_DPS_LARGER_(AZURE_DPS_HTTP_REGISTER_SIZE_(id_scope, registration_id, payload), \
                                        AZURE_DPS_HTTP_POLL_SIZE_(id_scope, registration_id)), \
                      AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** The size of the body of the last answer. */
#define AZURE_DPS_ANSWER_SIZE(registration_id, returned) (683 + 2 * (registration_id) + (returned))

/** The size for azure_dps_write_record(). */
#define AZURE_DPS_RECORD_SIZE(registration_id, returned) (32 + AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** The size for azure_dps_hub_write_user_name(). */
#define AZURE_DPS_HUB_USER_NAME_SIZE(hub, device_id) (sizeof "//?api-version=2021-04-12" + (hub) + (device_id))

/** The size for azure_dps_hub_write_password(). */
#define AZURE_DPS_HUB_PASSWORD_SIZE(hub, device_id) \
    (sizeof "SharedAccessSignature sr=%2Fdevices%2F" + AZURE_DPS_SIGNED_SIZE_ + (hub) + (device_id))

/** The size for azure_dps_hub_write_connection_string(). */
#define AZURE_DPS_HUB_CONNECTION_STRING_SIZE(hub, device_id) \
    (sizeof "HostName=;DeviceId=;SharedAccessKey=" - 1 + AZURE_DPS_KEY_BASE64_SIZE + (hub) + (device_id))

/** The size for azure_dps_hub_write_x509_connection_string(). */
#define AZURE_DPS_HUB_X509_CONNECTION_STRING_SIZE(hub, device_id) \
    (sizeof "HostName=;DeviceId=;x509=true" + (hub) + (device_id))

/**
 * The size for azure_dps_hub_write_telemetry_topic() without properties. For each property, add the percent-encoded
 * lengths of its name and value, and 2.
 */
#define AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE(device_id) (sizeof "devices//messages/events/" + (device_id))

/** The size for azure_dps_twin_write_get_topic() and azure_dps_twin_write_report_topic(). */
#define AZURE_DPS_TWIN_TOPIC_SIZE (sizeof "$iothub/twin/PATCH/properties/reported/?$rid=4294967295")

/** The length that azure_dps_config.csr adds to a request. `csr` is its length in DER. */
#define AZURE_DPS_CSR_IN_BODY(csr) (sizeof ",\"csr\":\"\"" - 1 + AZURE_DPS_BASE64_SIZE_(csr))

/** The length that a TPM adds to a request, from the lengths of azure_dps_config.endorsement_key and .storage_root_key. */
#define AZURE_DPS_TPM_IN_BODY(endorsement_key, storage_root_key) \
    (sizeof ",\"tpm\":{\"endorsementKey\":\"\",\"storageRootKey\":\"\"}" - 1 + AZURE_DPS_BASE64_SIZE_(endorsement_key) + \
     AZURE_DPS_BASE64_SIZE_(storage_root_key))

/** The size for azure_dps_tpm_decode(), from the length of the base64 text. */
#define AZURE_DPS_TPM_KEY_SIZE(base64) ((base64) / 4 * 3)

/** @cond Parts of the sizes above. */
#define AZURE_DPS_LARGER_(a, b) ((a) < (b) ? (b) : (a))
#define AZURE_DPS_BASE64_SIZE_(len) (((len) + 2) / 3 * 4)
#define AZURE_DPS_OPERATION_ID_MAX_ 128
/* The longest signature, 43 characters of base64, most of them encoded; an expiry of 20 digits. */
#define AZURE_DPS_SIGNED_SIZE_ (sizeof "&sig=&se=" - 1 + 130 + 20)
#define AZURE_DPS_BODY_SIZE_(registration_id, payload) \
    (sizeof "{\"registrationId\":\"\",\"payload\":}" - 1 + (registration_id) + (payload))
#define AZURE_DPS_HTTP_HEAD_ \
    "?api-version=2021-06-01 HTTP/1.1\r\nHost: global.azure-devices-provisioning.net\r\nUser-Agent: azure-dps/" \
    AZURE_DPS_VERSION "\r\nAccept: application/json\r\nAuthorization: \r\n"
#define AZURE_DPS_HTTP_REGISTER_SIZE_(id_scope, registration_id, payload) \
    (sizeof "PUT //registrations//register" AZURE_DPS_HTTP_HEAD_ \
            "Content-Type: application/json\r\nContent-Length: 4294967295\r\n\r\n" - 1 + \
     (id_scope) + (registration_id) + AZURE_DPS_SAS_TOKEN_SIZE(id_scope, registration_id) - 1 + \
     AZURE_DPS_BODY_SIZE_(registration_id, payload))
#define AZURE_DPS_HTTP_POLL_SIZE_(id_scope, registration_id) \
    (sizeof "GET //registrations//operations/" AZURE_DPS_HTTP_HEAD_ "\r\n" - 1 + (id_scope) + (registration_id) + \
     AZURE_DPS_SAS_TOKEN_SIZE(id_scope, registration_id) - 1 + AZURE_DPS_OPERATION_ID_MAX_)
/** @endcond */

/* ---- A run ------------------------------------------------------------------------------------------ */

/** Starts a new run. `unix_time` is for the expiry of the token. For X.509, pass 0. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_start(azure_dps_client *dps, uint32_t now_ms, uint64_t unix_time);

/* azure_dps_step() */
#define AZURE_DPS_SIGN 1     /**< Call azure_dps_sign(). Over MQTT, close the session: the token is its password. */
#define AZURE_DPS_ACTIVATE 2 /**< Call azure_dps_tpm_activate(). Only with a TPM. */
#define AZURE_DPS_SEND 3     /**< Connect if there is no connection, send the request, and pass in the answer. */
#define AZURE_DPS_WAIT 4     /**< Wait for `*wait_ms`. */
#define AZURE_DPS_FINISHED 5 /**< Read the outcome. */

/** Returns the next step: AZURE_DPS_SIGN … AZURE_DPS_FINISHED, or a negative AZURE_DPS_ERR_*. `wait_ms` is for WAIT. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_step(azure_dps_client *dps, uint32_t now_ms, uint32_t *wait_ms);

/**
 * Signs the token, for AZURE_DPS_SIGN. `buffer` needs AZURE_DPS_SAS_TOKEN_SIZE bytes. If it is too small,
 * azure_dps_write_message() returns the required size.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_sign(azure_dps_client *dps, const azure_dps_signer *signer,
                                                     void *buffer, size_t size);

/**
 * Writes the message that azure_dps_sign() signs, for a signer that is not a callback. Compute HMAC-SHA256(key, message)
 * with the key that azure_dps_get_key() names, and pass it to azure_dps_on_signature(). The message does not end with a
 * zero byte.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_message(const azure_dps_client *dps, void *buffer, size_t size,
                                                              size_t *len);

/** Takes the signature of azure_dps_write_message(): 32 bytes. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_on_signature(azure_dps_client *dps, const uint8_t *signature);

/** Returns the key that signs or that the service accepted: AZURE_DPS_PRIMARY_KEY or AZURE_DPS_SECONDARY_KEY. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_get_key(const azure_dps_client *dps);

/** Returns the time to wait for the answer to the current request, in milliseconds: 0 to INT32_MAX. 0: stop waiting. */
AZURE_DPS_MUST_CHECK uint32_t azure_dps_request_time_left(azure_dps_client *dps, uint32_t now_ms);

/** Reports a new connection, for azure_dps_get_progress(). Optional. azure_dps_mqtt_on_connack() does this too. */
void azure_dps_on_connected(azure_dps_client *dps);

/**
 * Takes the error of a request without an answer. After AZURE_DPS_ERR_CONNECT, _CLOSED, _STALLED or _STREAM, the run tries
 * again. AZURE_DPS_ERR_UNTRUSTED, _PROXY_REFUSED, _SIGNER and _TPM end the run. Returns AZURE_DPS_ERR_ARGUMENT for any other
 * value.
 */
azure_dps_result azure_dps_on_error(azure_dps_client *dps, uint32_t now_ms, azure_dps_result error);

/* azure_dps_progress.what */
#define AZURE_DPS_PROGRESS_CONNECTED 1  /**< A connection was made. */
#define AZURE_DPS_PROGRESS_REGISTERING 2 /**< A register request is due. */
#define AZURE_DPS_PROGRESS_LOOKING_UP 3 /**< A look-up is due. */
#define AZURE_DPS_PROGRESS_ASSIGNING 4  /**< The service is assigning the device. */
#define AZURE_DPS_PROGRESS_ASSIGNED 5   /**< The device has a hub. */
#define AZURE_DPS_PROGRESS_RETRYING 6   /**< A request failed, and is sent again. */
#define AZURE_DPS_PROGRESS_FAILED 7     /**< The run has ended. */

/** An event of a run, for a log or a user. */
typedef struct azure_dps_progress {
    int32_t what;            /**< AZURE_DPS_PROGRESS_* */
    azure_dps_result result; /**< RETRYING, FAILED: the reason. */
    uint32_t wait_ms;        /**< RETRYING: the time until the next attempt. */
    uint32_t failures;       /**< RETRYING: the number of failures in a row. */
} azure_dps_progress;

/** Returns 1 and fills `progress` if there is a new event, else 0. Optional. */
int32_t azure_dps_get_progress(azure_dps_client *dps, azure_dps_progress *progress);

/* ---- Over MQTT 3.1.1, with any client, on TLS 1.2 ---------------------------------------------------- */

#define AZURE_DPS_MQTT_PORT 8883 /**< MQTT over TLS. */
/** Subscribe to it after CONNACK, before the first request. */
#define AZURE_DPS_MQTT_SUBSCRIBE_FILTER "$dps/registrations/res/#"

/** Writes the client ID for CONNECT, with a clean session: the registration ID. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_mqtt_write_client_id(const azure_dps_client *dps, char *buffer,
                                                                     size_t size, size_t *len);

/** Writes the user name for CONNECT: AZURE_DPS_MQTT_USER_NAME_SIZE. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_mqtt_write_user_name(const azure_dps_client *dps, char *buffer,
                                                                     size_t size, size_t *len);

/** Writes the password for CONNECT: AZURE_DPS_SAS_TOKEN_SIZE. Empty for X.509. A secret while the token is valid. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_mqtt_write_password(const azure_dps_client *dps, char *buffer,
                                                                    size_t size, size_t *len);

/** Takes the return code of CONNACK. 0 is success. */
azure_dps_result azure_dps_mqtt_on_connack(azure_dps_client *dps, uint32_t now_ms, uint8_t return_code);

/**
 * Writes the request that is due: AZURE_DPS_MQTT_PUBLISH_SIZE. `topic` ends with a zero byte, and `body` follows in the
 * buffer. Publish with QoS 0 or 1, not retained. If the buffer is too small, `*needed` is the required size.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_mqtt_write_publish(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                                   size_t size, azure_dps_str *topic,
                                                                   azure_dps_bytes *body, size_t *needed);

/** Takes a message. Returns 1 if it is the answer to the current request, 0 if it is not, or AZURE_DPS_ERR_*. */
int32_t azure_dps_mqtt_on_message(azure_dps_client *dps, uint32_t now_ms, azure_dps_str topic, const void *body,
                                  size_t body_len);

/* ---- Over HTTP, on any byte stream, on TLS 1.2 ------------------------------------------------------- */

/*
 * The service may close a connection between two requests. If a request fails on a connection that was used before, close
 * the connection and call azure_dps_step(), without azure_dps_on_error(). The same request is due again.
 */

#define AZURE_DPS_HTTPS_PORT 443 /**< HTTP over TLS. */

/** Writes the request that is due: head and body. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_http_write_request(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                                   size_t size, size_t *len);

/** Returns the space in the buffer for the next bytes of the answer. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_http_space(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                           size_t size, uint8_t **space, size_t *space_len);

/**
 * Takes `len` bytes that you have read into azure_dps_http_space(). If the server closed the connection, pass 0. If a read
 * failed, call azure_dps_on_error() instead. A length above the space, such as `(size_t)-1`, counts as
 * AZURE_DPS_ERR_STREAM.
 *
 * Returns
 * - 1 if the answer is complete: call azure_dps_step();
 * - 0 if it is not: read again;
 * - AZURE_DPS_ERR_* if there is no answer: close the connection, and call azure_dps_step().
 *
 * `*keep_alive` is true if you may use the connection for the next request.
 */
AZURE_DPS_MUST_CHECK int32_t azure_dps_http_received(azure_dps_client *dps, uint32_t now_ms, void *buffer, size_t size,
                                                     size_t len, bool *keep_alive);

/**
 * azure_dps_io.read and .write return this value if there are no bytes yet. They are called again at once, until the
 * deadline of the request, so wait for a moment before you return.
 */
#define AZURE_DPS_IO_AGAIN (-100)

/**
 * Your blocking connection, clock and delay.
 *
 * A callback that fails returns a negative number of your choice. If it ended the run, azure_dps_error.io_error is this
 * number.
 */
typedef struct azure_dps_io {
    /** Passed to all callbacks. */
    void *ctx;
    /**
     * Opens TCP and TLS 1.2, and checks that the server's certificate is for `host`. `host` ends with a zero byte and is
     * valid during the call. An IPv6 address has no brackets. Must return after `timeout_ms`. Called again after `close`
     * if the service closed the connection.
     *
     * Returns 0; AZURE_DPS_ERR_UNTRUSTED or AZURE_DPS_ERR_PROXY_REFUSED to end the run; or any other number to try again.
     */
    int32_t (*connect)(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms);
    /**
     * Returns the number of bytes read, 0 if the server closed the connection, AZURE_DPS_IO_AGAIN, or another negative
     * number. Return AZURE_DPS_IO_AGAIN after about a second without bytes, because the library cannot interrupt a read.
     */
    int32_t (*read)(void *ctx, uint8_t *buffer, size_t size);
    /** Returns the number of bytes written, AZURE_DPS_IO_AGAIN, or another negative number. */
    int32_t (*write)(void *ctx, const uint8_t *bytes, size_t len);
    /** Closes the connection. Called once after each successful `connect`. */
    void (*close)(void *ctx);
    /** Returns the time of a monotonic clock in milliseconds. It may wrap. It must not stop during `delay_ms`. */
    uint32_t (*clock_ms)(void *ctx);
    /** Waits for at least this time. */
    void (*delay_ms)(void *ctx, uint32_t ms);
    /** Called with each new event. May be NULL. */
    void (*observe)(void *ctx, const azure_dps_progress *progress);
} azure_dps_io;

/**
 * Provisions the device over HTTP, from start to end. `buffer` needs AZURE_DPS_HTTP_SIZE bytes. Read the assignment from it
 * with azure_dps_get_assignment(). The buffer may contain parts of the token afterwards: wipe it if other code can read it.
 * Callbacks must not change `signer`, `io` or the buffer, except for the bytes that they must fill.
 *
 * Returns AZURE_DPS_OK if the device is assigned. After an error, azure_dps_get_error() returns the details.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_run(azure_dps_client *dps, uint64_t unix_time,
                                                    const azure_dps_signer *signer, void *buffer, size_t size,
                                                    const azure_dps_io *io);

/* ---- The outcome ------------------------------------------------------------------------------------ */

/** The result of a run: hub and device ID. The texts do not end with a zero byte: see azure_dps_str_copy(). */
typedef struct azure_dps_assignment {
    azure_dps_str assigned_hub;       /**< Points into the body. A host name with an optional `:` and port. */
    azure_dps_str device_id;          /**< Points into the client, or the record. */
    azure_dps_str payload;            /**< Points into the body. JSON from the webhook. `ptr` is NULL if there is none. */
    azure_dps_str registration_state; /**< Points into the body. The complete registration state, as JSON. */
} azure_dps_assignment;

/**
 * Reads the assignment. `body` is the start of the buffer over HTTP, and the body of the last message over MQTT. The texts
 * are valid as long as the body is unchanged. The device ID is valid until the next azure_dps_start() or
 * azure_dps_deinit().
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_get_assignment(const azure_dps_client *dps, const void *body,
                                                               size_t body_len, azure_dps_assignment *assignment);

/* azure_dps_get_substatus() */
#define AZURE_DPS_SUBSTATUS_NONE 0                    /**< The answer has no substatus. */
#define AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT 1      /**< The first assignment. */
#define AZURE_DPS_SUBSTATUS_DEVICE_DATA_MIGRATED 2    /**< Moved to another hub, with its twin. */
#define AZURE_DPS_SUBSTATUS_DEVICE_DATA_RESET 3       /**< Moved to another hub, with a new twin. */
#define AZURE_DPS_SUBSTATUS_REPROVISIONED_TO_INITIAL 4 /**< Reprovisioned to a hub of an earlier assignment. */
#define AZURE_DPS_SUBSTATUS_OTHER 255                 /**< A substatus that this version does not know. */

/**
 * Returns the kind of the assignment from `assignment->registration_state`: AZURE_DPS_SUBSTATUS_*, or AZURE_DPS_ERR_*.
 */
AZURE_DPS_MUST_CHECK int32_t azure_dps_get_substatus(const azure_dps_assignment *assignment);

/**
 * Fills `error` with the outcome of the run, or with the error of azure_dps_init(). Returns error->result: AZURE_DPS_OK if
 * the device is assigned, AZURE_DPS_ERR_NOT_STARTED or _NOT_FINISHED if there is no outcome yet.
 */
azure_dps_result azure_dps_get_error(const azure_dps_client *dps, azure_dps_error *error);

/** Writes the error as an English text, for a log. Needs about 9 KB of flash. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_error(const azure_dps_client *dps, char *buffer, size_t size,
                                                            size_t *len);

/** Writes the message of the service or the webhook about a failure. Empty if there is none. The text is not checked. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_service_message(const azure_dps_client *dps, const void *body,
                                                                      size_t body_len, char *buffer, size_t size,
                                                                      size_t *len);

/* ---- JSON: a payload, a twin, registration_state ----------------------------------------------------- */

/*
 * A value is a JSON text, from these functions or from anywhere else. The functions check the text. They return
 * AZURE_DPS_ERR_MALFORMED if it is not JSON, or another kind of value. Their results point into the text.
 */

/**
 * Finds a member of an object, also a member that is `null`. Returns AZURE_DPS_ERR_NOT_FOUND if there is no such member, or
 * if the text is empty, as the payload of a webhook that returned none.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_get(azure_dps_str object, azure_dps_str name, azure_dps_str *value);

/** Finds an element of an array. `index` starts at 0. Returns AZURE_DPS_ERR_NOT_FOUND after the last element. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_at(azure_dps_str array, size_t index, azure_dps_str *value);

/** Writes a string with its escapes decoded. If it contains a zero byte, `*len` is larger than strlen(). */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_write_text(azure_dps_str value, char *buffer, size_t size,
                                                                size_t *len);

/** Reads a whole number from 0 to 4 294 967 295, without fraction or exponent. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_u32(azure_dps_str value, uint32_t *number);

/** Reads `true` or `false`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_bool(azure_dps_str value, bool *truth);

/** Returns true if the value is `null`. In a change of the twin, `null` is a deleted property. */
bool azure_dps_json_is_null(azure_dps_str value);

/* ---- The hub ---------------------------------------------------------------------------------------- */

/**
 * A hub and a device ID, from azure_dps_assignment or from your own storage. If the texts are in the buffer of the answer,
 * write the host, the user name and the password into another buffer.
 */
typedef struct azure_dps_hub {
    azure_dps_str assigned_hub; /**< A host name with an optional `:` and port. */
    azure_dps_str device_id;    /**< Also the MQTT client ID. */
} azure_dps_hub;

#define AZURE_DPS_HUB_MQTT_PORT 8883 /**< MQTT over TLS. */

/** Writes the host name of the hub. Sets `*port` only if the hub has a port. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_host(const azure_dps_hub *hub, char *buffer, size_t size,
                                                               size_t *len, uint16_t *port);

/** Writes the MQTT user name. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_user_name(const azure_dps_hub *hub, char *buffer, size_t size,
                                                                    size_t *len);

/**
 * Writes the MQTT password: a SAS token that expires at `expiry`, in Unix time. With X.509 there is no password.
 * `which_key` is the key that the service accepted: AZURE_DPS_PRIMARY_KEY or AZURE_DPS_SECONDARY_KEY.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_password(const azure_dps_hub *hub,
                                                                   const azure_dps_signer *signer, int32_t which_key,
                                                                   uint64_t expiry, char *buffer, size_t size,
                                                                   size_t *len);

/**
 * Writes the message that azure_dps_hub_write_password() signs, for a signer that is not a callback. The message does not end
 * with a zero byte. Call azure_dps_hub_write_signed_password() next.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_message(const azure_dps_hub *hub, uint64_t expiry, void *buffer,
                                                                  size_t size, size_t *len);

/** Writes the MQTT password with the signature of azure_dps_hub_write_message(): 32 bytes. Pass the same `expiry`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_signed_password(const azure_dps_hub *hub,
                                                                          const uint8_t *signature, uint64_t expiry,
                                                                          char *buffer, size_t size, size_t *len);

/** Writes the connection string for other SDKs. It contains the key, which is a secret. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_connection_string(const azure_dps_hub *hub,
                                                                            const azure_dps_key *key, char *buffer,
                                                                            size_t size, size_t *len);

/** Writes the connection string of a device with a certificate. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_x509_connection_string(const azure_dps_hub *hub, char *buffer,
                                                                                 size_t size, size_t *len);

/** A property of a message: name and value. */
typedef struct azure_dps_property {
    azure_dps_str name;  /**< Is percent-encoded when it is written. */
    azure_dps_str value; /**< Is percent-encoded when it is written. */
} azure_dps_property;

/** Writes the topic for telemetry, with `count` properties. `count` may be 0. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_telemetry_topic(const azure_dps_hub *hub,
                                                                          const azure_dps_property *properties,
                                                                          size_t count, char *buffer, size_t size,
                                                                          size_t *len);

/* ---- The twin --------------------------------------------------------------------------------------- */

/** The topic filter of the answers to requests. */
#define AZURE_DPS_TWIN_ANSWER_FILTER "$iothub/twin/res/#"
/** The topic filter of changes of the desired properties. */
#define AZURE_DPS_TWIN_CHANGE_FILTER "$iothub/twin/PATCH/properties/desired/#"

/** Writes the topic of the request for the whole twin. Publish an empty body. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_write_get_topic(uint32_t request_id, char *buffer, size_t size,
                                                                     size_t *len);

/** Writes the topic for reported properties. Publish a JSON object. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_write_report_topic(uint32_t request_id, char *buffer, size_t size,
                                                                        size_t *len);

/* azure_dps_twin_message.what */
#define AZURE_DPS_TWIN_OTHER 0    /**< Not about the twin. */
#define AZURE_DPS_TWIN_WHOLE 1    /**< The whole twin. */
#define AZURE_DPS_TWIN_CHANGE 2   /**< A change of desired properties. */
#define AZURE_DPS_TWIN_REPORTED 3 /**< The hub accepted reported properties. */
#define AZURE_DPS_TWIN_REFUSED 4  /**< The hub rejected a request. */

/** A message about the twin. Members that `what` does not use are 0. */
typedef struct azure_dps_twin_message {
    int32_t what;              /**< AZURE_DPS_TWIN_* */
    uint32_t request_id;       /**< WHOLE, REPORTED, REFUSED. */
    azure_dps_str desired;     /**< WHOLE, CHANGE: a JSON object in the body. */
    azure_dps_str reported;    /**< WHOLE: a JSON object in the body. */
    uint64_t desired_version;  /**< WHOLE, CHANGE. If a change skips a version, get the whole twin again. */
    uint64_t reported_version; /**< WHOLE. REPORTED: only if the hub sends it. */
    uint32_t code;             /**< REFUSED: the hub's six-digit code. 0 if there is none. */
    uint16_t status;           /**< REFUSED: the hub's status. */
    uint8_t retryable;         /**< REFUSED: 1 if the same request may succeed later. */
    uint8_t unknown_device;    /**< REFUSED: if 1, end the session, and pass `status` to azure_dps_reprovisioning_on_hub(). */
} azure_dps_twin_message;

/**
 * Reads a message. Returns AZURE_DPS_ERR_MALFORMED if the topic is about the twin, but the body is invalid. Then only
 * `request_id` is set, which is 0 for a change.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_read(azure_dps_str topic, const void *body, size_t body_len,
                                                          azure_dps_twin_message *message);

/**
 * Reads a message from its topic, if its body was skipped because it does not fit the MQTT client's buffer. `body_len` is the
 * length of the body. Returns AZURE_DPS_ERR_BUFFER_TOO_SMALL if the message needs its body.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_read_skipped(azure_dps_str topic, size_t body_len,
                                                                  azure_dps_twin_message *message);

/* ---- The record: the assignment in flash ------------------------------------------------------------- */

/** The length of a record's header, for azure_dps_record_len(). */
#define AZURE_DPS_RECORD_HEADER_SIZE 16

/**
 * Writes the record of the assignment. `body` is the same as for azure_dps_get_assignment().
 *
 * Over HTTP, you may pass the same buffer as `body` and as `buffer`. Then the record replaces the answer: read the assignment
 * with azure_dps_record_read(). Otherwise the two must not overlap.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_record(const azure_dps_client *dps, const void *body,
                                                             size_t body_len, void *buffer, size_t size, size_t *len);

/** Returns the length of a record from its first 16 bytes. Returns 0 if the bytes are not a record. */
size_t azure_dps_record_len(const uint8_t *header);

/**
 * Reads a record. The record must have the id_scope and registration_id of `config`. `record_len` may be larger than the
 * record. `*key` is the key that the service accepted: AZURE_DPS_PRIMARY_KEY or _SECONDARY_KEY. `key` may be NULL.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_record_read(const azure_dps_config *config, const void *record,
                                                            size_t record_len, azure_dps_assignment *assignment,
                                                            int32_t *key);

/* ---- The life after the first boot ------------------------------------------------------------------- */

/**
 * Decides when to connect to the hub and when to ask DPS again. Do not move it.
 *
 *     azure_dps_reprovisioning_init()           at boot, with the record in flash
 *     for (;;) switch (azure_dps_reprovisioning_next(&life, now_ms, &wait_ms, &key)) {
 *         case AZURE_DPS_NEXT_HUB:      azure_dps_record_read(); connect; azure_dps_reprovisioning_on_hub();
 *                                       when the session ends, azure_dps_reprovisioning_on_hub() again
 *         case AZURE_DPS_NEXT_LOOK_UP:  config.lookup = 1, config.first_key = key; azure_dps_init(); a run;
 *                                       azure_dps_reprovisioning_on_assigned() or _on_failed()
 *         case AZURE_DPS_NEXT_REGISTER: the same with config.lookup = 0
 *         case AZURE_DPS_NEXT_WAIT:     wait for wait_ms
 *         default:                      wrong use: the value is an AZURE_DPS_ERR_*
 *     }
 */
typedef struct azure_dps_reprovisioning {
    uint64_t opaque[24]; /**< Private. */
} azure_dps_reprovisioning;

/** The settings of azure_dps_reprovisioning. Zero means the default, with which the comments end. */
typedef struct azure_dps_reprovisioning_policy {
    uint32_t hub_patience_ms;  /**< The time to try an unreachable hub before the device asks DPS. 1 200 000. */
    uint32_t first_pause_ms;   /**< The first pause between two requests to DPS. Later pauses are longer. 60 000. */
    uint32_t longest_pause_ms; /**< The longest pause between two requests to DPS. 86 400 000. */
    uint32_t jitter_seed;      /**< Any number that differs from device to device. */
    uint8_t lookup;            /**< 1: look up the assignment before registering again. Feature `lookup`. */
} azure_dps_reprovisioning_policy;

/**
 * Initializes the state machine at boot. `record` is the content of the flash, valid or not. If there is none, pass NULL and
 * 0. `policy` may be NULL. You may free `config` and the record afterwards.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_reprovisioning_init(azure_dps_reprovisioning *life,
                                                                    const azure_dps_config *config,
                                                                    const azure_dps_reprovisioning_policy *policy,
                                                                    const void *record, size_t record_len);

#define AZURE_DPS_NEXT_HUB 1      /**< Connect to the hub of the record, and call azure_dps_reprovisioning_on_hub(). */
#define AZURE_DPS_NEXT_LOOK_UP 2  /**< Run with azure_dps_config.lookup = 1. */
#define AZURE_DPS_NEXT_REGISTER 3 /**< Run with azure_dps_config.lookup = 0. */
#define AZURE_DPS_NEXT_WAIT 4     /**< Wait for `*wait_ms`. */

/** Returns AZURE_DPS_NEXT_*, or AZURE_DPS_ERR_*. `*key` is the key to use first. `wait_ms` and `key` may be NULL. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_reprovisioning_next(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                           uint32_t *wait_ms, int32_t *key);

/** Takes a run that assigned the device. Returns 1 if you must write the record now, 0 if nothing changed. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_reprovisioning_on_assigned(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                                  const azure_dps_client *dps, const void *body,
                                                                  size_t body_len);

/** Takes a run that failed. */
azure_dps_result azure_dps_reprovisioning_on_failed(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                    const azure_dps_client *dps);

/* azure_dps_reprovisioning_on_hub(): one of these, or the status with which the hub rejected the device, 400 to 599. */
#define AZURE_DPS_HUB_ACCEPTED 1    /**< The session has begun. */
#define AZURE_DPS_HUB_CLOSED 2      /**< The device ended the session. */
#define AZURE_DPS_HUB_UNREACHABLE 3 /**< The connection failed, or the session was lost. */

/** Returns the outcome for the return code of a hub's CONNACK. */
int32_t azure_dps_hub_outcome_from_connack(uint8_t return_code);

/** Takes the outcome of a connection to the hub, and later the end of its session. */
azure_dps_result azure_dps_reprovisioning_on_hub(azure_dps_reprovisioning *life, uint32_t now_ms, int32_t outcome);

/** Makes a registration the next action, for example after a direct method "reprovision" or a button. */
azure_dps_result azure_dps_reprovisioning_provision_again(azure_dps_reprovisioning *life);

/** Writes the pauses: 8 bytes. Save them in memory that a reboot does not clear. */
azure_dps_result azure_dps_reprovisioning_get_pauses(azure_dps_reprovisioning *life, uint32_t now_ms, uint8_t *pauses);

/**
 * Restores the pauses of azure_dps_reprovisioning_get_pauses() after a reboot. `off_ms` is the time since then, or 0 if it is
 * unknown. Returns AZURE_DPS_ERR_ARGUMENT if the 8 bytes are not saved pauses.
 */
azure_dps_result azure_dps_reprovisioning_set_pauses(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                     const uint8_t *pauses, uint32_t off_ms);

/* ---- TPM (feature `tpm`) ------------------------------------------------------------------------------ */

/** Finds the challenge for AZURE_DPS_ACTIVATE in the answer. It is base64. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_get_challenge(const azure_dps_client *dps, const void *body,
                                                                  size_t body_len, azure_dps_str *challenge);

/** Tells the run that the TPM has loaded the key of the challenge. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_on_activated(azure_dps_client *dps);

/** Passes the challenge to azure_dps_signer.activate, for AZURE_DPS_ACTIVATE. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_activate(azure_dps_client *dps, const azure_dps_signer *signer,
                                                             const void *body, size_t body_len);

/** The parts of an encrypted key, for TPM2_ActivateCredential and TPM2_Import. They point into the buffer. */
typedef struct azure_dps_tpm_encrypted_key {
    azure_dps_bytes id_object;        /**< TPM2_ActivateCredential: TPM2B_ID_OBJECT. */
    azure_dps_bytes encrypted_secret; /**< TPM2_ActivateCredential: TPM2B_ENCRYPTED_SECRET. */
    azure_dps_bytes import_seed;      /**< TPM2_Import: TPM2B_ENCRYPTED_SECRET. */
    azure_dps_bytes duplicate;        /**< TPM2_Import: TPM2B_PRIVATE. */
    azure_dps_bytes public_area;      /**< TPM2_Import, TPM2_Load: TPMT_PUBLIC of the key. */
    azure_dps_bytes data;             /**< Encrypted with the inner key. No known client uses it. */
} azure_dps_tpm_encrypted_key;

/** Decodes a challenge, or the key of azure_dps_tpm_get_authentication_key(), into `buffer`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_decode(azure_dps_str base64, void *buffer, size_t size,
                                                           size_t *needed, azure_dps_tpm_encrypted_key *key);

/** Finds the key for the hub in an assignment. It is base64. Returns AZURE_DPS_ERR_NOT_FOUND if there is none. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_get_authentication_key(const azure_dps_assignment *assignment,
                                                                           azure_dps_str *key);

/* ---- Certificates issued by the service (feature `csr`) ------------------------------------------------ */

/**
 * Writes a certificate of the issued chain in DER. `index` starts at 0. Returns AZURE_DPS_ERR_NOT_FOUND after the last
 * certificate.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_certificate_write(const azure_dps_assignment *assignment, size_t index,
                                                                  void *buffer, size_t size, size_t *len);

/** Writes the device's own certificate in DER: the one with the public key of `csr`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_certificate_write_leaf(const azure_dps_assignment *assignment,
                                                                       azure_dps_bytes csr, void *buffer, size_t size,
                                                                       size_t *len);

#ifdef __cplusplus
}
#endif

#endif /* AZURE_DPS_H */
