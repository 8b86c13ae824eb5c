/**
 * @file azure_dps.h
 * Device-side client for the Azure IoT Hub Device Provisioning Service (DPS).
 *
 * The library is a state machine. It has no I/O, no clock, no allocator and no global state: all memory
 * is yours. You bring TCP, TLS 1.2 and, if you use MQTT, an MQTT client. C99 or C++. Link with
 * `libazure_dps_c.a` of the same version.
 *
 * Over HTTP, one call does everything:
 *
 *     azure_dps_key_from_base64()     the device's key
 *     azure_dps_init()                who the device is
 *     azure_dps_run()                 provisions, on the connection that your callbacks make
 *     azure_dps_get_assignment()      the hub, the device ID, the payload of the operator's webhook
 *
 * In an event loop, or over MQTT, drive the state machine yourself:
 *
 *     azure_dps_start()
 *     for (;;) switch (azure_dps_step(&dps, now_ms, &wait_ms)) {
 *         case AZURE_DPS_SIGN:     azure_dps_sign(); over MQTT, close the session
 *         case AZURE_DPS_ACTIVATE: give the challenge to the TPM; only a TPM is asked to
 *         case AZURE_DPS_SEND:     connect, write the request, send it, hand in the answer
 *         case AZURE_DPS_WAIT:     do nothing for wait_ms
 *         case AZURE_DPS_FINISHED: azure_dps_get_assignment() or azure_dps_get_error()
 *         default:                 misuse: the value is an AZURE_DPS_ERR_*
 *     }
 *
 * ## Where to find what
 *
 * | section | for |
 * |---|---|
 * | Results, Text and bytes | the codes and types of all functions |
 * | Keys, Signing | what proves who the device is |
 * | The device, Sizes of buffers | the configuration, and how much memory it takes |
 * | A run | the state machine |
 * | Over MQTT; Over HTTP | one of them carries the requests; azure_dps_run() is at the end of Over HTTP |
 * | The outcome | the assignment, or what went wrong |
 * | JSON, The hub, The twin, The record, The life after the first boot | the time afterwards |
 * | TPM, Certificates issued by the service | only with these features of the library |
 *
 * `c/README.md` shows how they fit together.
 *
 * ## Lifetimes
 *
 * - The texts in azure_dps_config are not copied. They must stay where they are, unchanged, until
 *   azure_dps_deinit(). The config itself may go after azure_dps_init().
 * - An initialised azure_dps_client must not be copied or moved. A client that was moved is refused with
 *   AZURE_DPS_ERR_HANDLE.
 * - Results point into the body of the last answer: the start of the buffer over HTTP, the message over
 *   MQTT. Keep the body until the result is read.
 * - Pass the same kind of handle that you initialised. One thread at a time may use a client, or a key. No
 *   function may be called on a client from one of its own callbacks. Callbacks return: no longjmp(), no C++
 *   exception.
 * - The memory that a function writes into does not overlap what it reads, unless its comment says so.
 *
 * ## Conventions
 *
 * - A function that can fail returns azure_dps_result: AZURE_DPS_OK or a negative AZURE_DPS_ERR_*.
 * - A function that writes takes a buffer, its size and a pointer to a length. `*len` is the length of what
 *   was written. Text ends with a zero byte, which `*len` does not count. If the result is
 *   AZURE_DPS_ERR_BUFFER_TOO_SMALL, `*len` is the size that is needed, the zero byte included.
 * - `now_ms` is a monotonic clock in milliseconds, from any start. It may wrap, so a tick counter of 32 bits
 *   is enough. Use the same clock for all calls, and call within 49 days of the last call.
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

/** The version of the functions and structures below. azure_dps_init() refuses a library of another one. */
#define AZURE_DPS_ABI 1u

#if defined(__GNUC__)
/** Marks functions whose result must be looked at. */
#define AZURE_DPS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define AZURE_DPS_MUST_CHECK
#endif

/* ---- Results ---------------------------------------------------------------------------------------- */

/** AZURE_DPS_OK, or one of AZURE_DPS_ERR_*. Not an enum: the size of an enum depends on compiler flags. */
typedef int32_t azure_dps_result;

#define AZURE_DPS_OK 0 /**< Success. */

/* Wrong use of this library. */
#define AZURE_DPS_ERR_ARGUMENT (-1)         /**< A pointer is NULL, a text is not UTF-8, or a number is out of range. */
#define AZURE_DPS_ERR_HANDLE (-2)           /**< Not initialised, moved, or in use by a callback. */
#define AZURE_DPS_ERR_ABI (-3)              /**< Header and library are of different versions. */
#define AZURE_DPS_ERR_NOT_STARTED (-4)      /**< Call azure_dps_start() first. */
#define AZURE_DPS_ERR_NOT_DUE (-5)          /**< azure_dps_step() did not ask for this. */
#define AZURE_DPS_ERR_NOT_FINISHED (-6)     /**< The run is still under way. */
#define AZURE_DPS_ERR_WRONG_BUFFER (-7)     /**< The buffer does not hold the last answer. */
#define AZURE_DPS_ERR_BUFFER_TOO_SMALL (-8) /**< `*len`, or azure_dps_error.needed, says how large it must be. */
#define AZURE_DPS_ERR_UNSUPPORTED (-9)      /**< The library was built without it, or MQTT does not have it. */

/* Wrong input. */
#define AZURE_DPS_ERR_INVALID_ID_SCOPE (-10)        /**< See azure_dps_config. */
#define AZURE_DPS_ERR_INVALID_REGISTRATION_ID (-11) /**< See azure_dps_config. */
#define AZURE_DPS_ERR_INVALID_KEY (-12)             /**< Not base64 of 16 to 64 bytes. */
#define AZURE_DPS_ERR_INVALID_PAYLOAD (-13)         /**< Not one JSON object. */
#define AZURE_DPS_ERR_INVALID_ENDPOINT (-14)        /**< Not `host`, `host:port` or a URL of these. */
#define AZURE_DPS_ERR_INVALID_CSR (-15)             /**< Not one PKCS #10 document in DER. */
#define AZURE_DPS_ERR_INVALID_HUB (-16)             /**< Not a host name, or not a device ID. */
#define AZURE_DPS_ERR_REQUEST_TOO_LARGE (-17)       /**< The service accepts 96 KB. Nothing was sent. */
#define AZURE_DPS_ERR_SIGNER (-18)                  /**< azure_dps_signer.sign failed. */
#define AZURE_DPS_ERR_TPM (-19)                     /**< azure_dps_signer.activate failed, or it is no such key. */
#define AZURE_DPS_ERR_RECORD_ABSENT (-20)           /**< No record was written there. */
#define AZURE_DPS_ERR_RECORD_TORN (-21)             /**< Bytes are missing or changed. */
#define AZURE_DPS_ERR_RECORD_LAYOUT (-22)           /**< Written by another version. */
#define AZURE_DPS_ERR_RECORD_FOREIGN (-23)          /**< Another device's, or for another ID scope. */
#define AZURE_DPS_ERR_RECORD_IMPOSSIBLE (-24)       /**< Intact, and yet no assignment. */
#define AZURE_DPS_ERR_NOT_FOUND (-25)               /**< There is no such member, or no such certificate. */

/* How a run ends. */
#define AZURE_DPS_ERR_REFUSED (-30)         /**< The service refused the request: http_status and code say why. */
#define AZURE_DPS_ERR_FAILED (-31)          /**< The service tried, and failed: code says why. */
#define AZURE_DPS_ERR_DISABLED (-32)        /**< The enrollment is disabled. */
#define AZURE_DPS_ERR_UNASSIGNED (-33)      /**< A look-up found a registration without a hub. */
#define AZURE_DPS_ERR_STILL_ASSIGNING (-34) /**< Not assigned within azure_dps_config.timeout_ms. */
#define AZURE_DPS_ERR_OPERATION_LOST (-35)  /**< The service lost the registration, twice. */
#define AZURE_DPS_ERR_TIMED_OUT (-36)       /**< No answer within azure_dps_config.timeout_ms. */
#define AZURE_DPS_ERR_MALFORMED (-37)       /**< The answer is not from DPS: look for a proxy or a portal. Or JSON of another kind. */
#define AZURE_DPS_ERR_UNTRUSTED (-40)       /**< The server's certificate is not trusted. */
#define AZURE_DPS_ERR_PROXY_REFUSED (-41)   /**< A proxy on the way refuses the device. */
#define AZURE_DPS_ERR_CONNECT (-42)         /**< No connection. */
#define AZURE_DPS_ERR_CLOSED (-43)          /**< The connection was closed before the answer was complete. */
#define AZURE_DPS_ERR_STALLED (-44)         /**< No answer within azure_dps_config.request_timeout_ms. */
#define AZURE_DPS_ERR_STREAM (-45)          /**< Reading or writing failed otherwise. */
#define AZURE_DPS_ERR_OTHER (-99)           /**< An error that this version of the header does not name. */

/* Who must act: azure_dps_error.fault. */
#define AZURE_DPS_FAULT_CALLER 1     /**< Fix the firmware or its configuration. */
#define AZURE_DPS_FAULT_CREDENTIAL 2 /**< Check the key and the device's clock. */
#define AZURE_DPS_FAULT_REFUSED 3    /**< The operator must act: enrollment, webhook, hub. */
#define AZURE_DPS_FAULT_BUSY 4       /**< The service is busy. Try again later. */
#define AZURE_DPS_FAULT_PEER 5       /**< Not DPS: a proxy or a portal, or a certificate that is not trusted. */
#define AZURE_DPS_FAULT_TRANSPORT 6  /**< The network failed. Try again later. */

/** What went wrong. */
typedef struct azure_dps_error {
    azure_dps_result result; /**< The code that the function returned. */
    uint32_t code;           /**< The service's six digits, such as 401000. 0 if there are none. */
    uint32_t needed;         /**< For BUFFER_TOO_SMALL: bytes. For REQUEST_TOO_LARGE: its size in bytes. Else 0. */
    uint32_t position;       /**< For INVALID_* and MALFORMED: the offset of the first wrong byte, if known. */
    int32_t io_error;        /**< What a callback of azure_dps_io or azure_dps_signer returned. 0 if none failed. */
    uint16_t http_status;    /**< The status of the answer, over MQTT too. 0 if there was none. */
    uint8_t fault;           /**< AZURE_DPS_FAULT_* */
    uint8_t retryable;       /**< 1: a new run may succeed later, although nobody changes anything. */
    char tracking_id[37];    /**< For a support request to Microsoft; "" if there is none. */
} azure_dps_error;

/** Returns the name of a result, such as "AZURE_DPS_ERR_UNTRUSTED". Never NULL. Static text. */
const char *azure_dps_result_name(azure_dps_result result);

/* ---- Text and bytes --------------------------------------------------------------------------------- */

/** A text of `len` bytes in UTF-8. It needs no terminating zero. */
typedef struct azure_dps_str {
    const char *ptr; /**< May be NULL if `len` is 0. */
    size_t len;      /**< In bytes. */
} azure_dps_str;

/** Bytes. */
typedef struct azure_dps_bytes {
    const uint8_t *ptr; /**< May be NULL if `len` is 0. */
    size_t len;         /**< How many. */
} azure_dps_bytes;

/** Returns a zero-terminated text as azure_dps_str. NULL is the empty text. */
static inline azure_dps_str azure_dps_str_of(const char *text)
{
    azure_dps_str str = {text, text == NULL ? 0 : strlen(text)};
    return str;
}

/** Copies a text, and ends it with a zero byte. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_str_copy(azure_dps_str str, char *buffer, size_t size, size_t *len);

/* ---- Keys ------------------------------------------------------------------------------------------- */

/** The memory of one symmetric key. Wipe it after use: azure_dps_key_wipe(). May not be moved. */
typedef struct azure_dps_key {
    uint64_t opaque[9]; /**< Private. */
} azure_dps_key;

/** Reads the device's key: base64, as the portal shows it. The key is wiped if the text is no key. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_from_base64(azure_dps_key *key, azure_dps_str base64);

/**
 * Derives the device's key from the key of its enrollment group.
 *
 * Use this in the factory, and in tests. The key of a group does not belong in firmware: with it,
 * anybody can provision any device of the group.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_derive(azure_dps_key *key, azure_dps_str group_key_base64,
                                                           azure_dps_str registration_id);

/** Writes the key as base64: 24 to 88 characters. This is a secret. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_key_write_base64(const azure_dps_key *key, char *buffer, size_t size,
                                                                 size_t *len);

/** Overwrites the key. The memory is free then. */
void azure_dps_key_wipe(azure_dps_key *key);

/* ---- Signing ---------------------------------------------------------------------------------------- */

/**
 * What holds the device's key: software, a secure element, a TPM. A device with an X.509 certificate has no
 * signer: pass NULL.
 *
 * The callbacks return 0, or another number if they fail: the run then ends with AZURE_DPS_ERR_SIGNER or
 * AZURE_DPS_ERR_TPM, and azure_dps_error.io_error is that number.
 */
typedef struct azure_dps_signer {
    /** Passed to the callbacks. */
    void *ctx;
    /** Writes HMAC-SHA256(primary key, message), 32 bytes, into `signature`. */
    int32_t (*sign)(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);
    /** The same with the secondary key. NULL if there is one key. */
    int32_t (*sign_with_secondary_key)(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);
    /** Activates the key in `challenge`: base64, for azure_dps_tpm_decode(). NULL if there is no TPM. */
    int32_t (*activate)(void *ctx, azure_dps_str challenge);
} azure_dps_signer;

/** Signs with an azure_dps_key, which `ctx` points to. For azure_dps_signer.sign. */
int32_t azure_dps_key_sign(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);

/** Signs with the second of two keys: `ctx` points to an array of two azure_dps_key. */
int32_t azure_dps_key_sign_second(void *ctx, const uint8_t *message, size_t len, uint8_t *signature);

/** Returns a signer with one key in software. The key must outlive it. */
static inline azure_dps_signer azure_dps_key_signer(azure_dps_key *key)
{
    azure_dps_signer signer = {key, azure_dps_key_sign, NULL, NULL};
    return signer;
}

/** Returns a signer with a primary and a secondary key in software: an array of two. */
static inline azure_dps_signer azure_dps_two_keys_signer(azure_dps_key *keys)
{
    azure_dps_signer signer = {keys, azure_dps_key_sign, azure_dps_key_sign_second, NULL};
    return signer;
}

/* ---- The device ------------------------------------------------------------------------------------- */

/* azure_dps_config.attestation */
#define AZURE_DPS_SYMMETRIC_KEY 0 /**< The signer has the key. */
#define AZURE_DPS_X509 1          /**< The TLS connection shows the certificate. */
#define AZURE_DPS_TPM 2           /**< HTTP only. In libraries built with the feature `tpm`. */

/* azure_dps_config.first_key, and what azure_dps_get_key() returns */
#define AZURE_DPS_PRIMARY_KEY 0   /**< azure_dps_signer.sign */
#define AZURE_DPS_SECONDARY_KEY 1 /**< azure_dps_signer.sign_with_secondary_key */

/**
 * Who the device is, and how patient. Zero means: not given, or the default. Begin with
 * `azure_dps_config config = {0};`.
 */
typedef struct azure_dps_config {
    azure_dps_str id_scope;            /**< Required. At most 64 characters: letters, digits, `-._`. */
    azure_dps_str registration_id;     /**< Required. At most 128 characters: lower case, digits, `-._:`. */
    azure_dps_str payload;             /**< One JSON object for the operator's webhook. */
    azure_dps_bytes csr;               /**< A PKCS #10 document in DER. Feature `csr`. */
    azure_dps_bytes endorsement_key;   /**< TPM: the public area, TPM2B_PUBLIC. */
    azure_dps_bytes storage_root_key;  /**< TPM: the public area, TPM2B_PUBLIC. */
    azure_dps_str api_version;         /**< "2021-06-01"; with a csr "2026-11-01". */
    uint32_t timeout_ms;               /**< For a whole run. 600 000. */
    uint32_t request_timeout_ms;       /**< For a request and its answer. 60 000. */
    uint32_t poll_interval_ms;         /**< Used if the service names none. 3 000. */
    uint32_t token_lifetime_s;         /**< 3 600. */
    uint32_t max_body;                 /**< The longest body of a request, in bytes. 98 304. */
    uint32_t jitter_seed;              /**< Any number that differs from device to device. */
    uint8_t max_retries;               /**< How many network failures in a row are retried. 8. */
    uint8_t attestation;               /**< AZURE_DPS_SYMMETRIC_KEY, _X509 or _TPM. */
    uint8_t first_key;                 /**< AZURE_DPS_PRIMARY_KEY or _SECONDARY_KEY. */
    uint8_t lookup;                    /**< 1: ask where the device was assigned, and register nothing. HTTP only. */
} azure_dps_config;

/** The memory of one device. Its contents are private. */
typedef struct azure_dps_client {
#if UINTPTR_MAX > 0xFFFFFFFFu
    uint64_t opaque[75]; /**< Private. */
#else
    uint64_t opaque[60]; /**< Private. */
#endif
} azure_dps_client;

/** azure_dps_init() with what it passes to check that header and library fit. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_init_abi(azure_dps_client *dps, const azure_dps_config *config,
                                                         uint32_t abi, uint32_t sizes);

/**
 * Initialises a client, whatever was in its memory. Nothing is sent. If a client was in it, call azure_dps_deinit()
 * first: its signature may remain otherwise.
 *
 * If the result is AZURE_DPS_ERR_INVALID_*, azure_dps_get_error() says where the first wrong byte is.
 */
AZURE_DPS_MUST_CHECK static inline azure_dps_result azure_dps_init(azure_dps_client *dps,
                                                                   const azure_dps_config *config)
{
    return azure_dps_init_abi(dps, config, AZURE_DPS_ABI,
                              sizeof(azure_dps_client) << 16 | sizeof(azure_dps_config) << 8 | sizeof(azure_dps_error));
}

/**
 * Sets another address of the service than `global.azure-devices-provisioning.net`: `host`, `host:port` or
 * `https://host:port`. The text is not copied. Call it before azure_dps_start().
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_set_endpoint(azure_dps_client *dps, azure_dps_str endpoint);

/**
 * Writes the host name of the service, for a connection of your own. Sets `port` if the endpoint names another port than
 * 443, else leaves it alone: begin with AZURE_DPS_HTTPS_PORT or AZURE_DPS_MQTT_PORT.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_host(const azure_dps_client *dps, char *buffer, size_t size,
                                                           size_t *len, uint16_t *port);

/** Wipes what is secret. The memory is free then. */
void azure_dps_deinit(azure_dps_client *dps);

/* ---- Sizes of buffers ------------------------------------------------------------------------------- */

/*
 * For the buffers that functions write into, at compile time:
 *
 *     #define ID_SCOPE "0ne00002193"
 *     #define REGISTRATION_ID "breakroom499-contoso-tstrsd-007"
 *     char password[AZURE_DPS_SAS_TOKEN_SIZE(sizeof ID_SCOPE - 1, sizeof REGISTRATION_ID - 1)];
 *
 * The arguments are lengths in characters, without a zero byte. A size counts the zero byte at the end of a text.
 *
 * - `id_scope`: AZURE_DPS_ID_SCOPE_MAX if it is not known.
 * - `registration_id`: each `:` counts as three characters, because it takes three in a URL.
 * - `payload`: of azure_dps_config.payload, 0 if there is none. With a csr or a TPM add AZURE_DPS_CSR_IN_BODY() or
 *   AZURE_DPS_TPM_IN_BODY().
 * - `returned`: what the answer has beyond what every answer has: the payload that the webhook returns; some 800 bytes
 *   for X.509, some 1 200 for a TPM, and four thirds of the certificates that are issued.
 * - `hub`: azure_dps_assignment.assigned_hub, with its port if it has one.
 * - `device_id`: each character but letters, digits and `-._~` counts as three.
 *
 * With another endpoint than the default, or another api_version, add how much longer they are: a host name has 37
 * characters, an api-version 10. The sizes of answers are sufficient for what the service is known to send, a hub of 75
 * characters and a device ID as long as the registration ID. A longer answer ends the run with
 * AZURE_DPS_ERR_BUFFER_TOO_SMALL, and azure_dps_error.needed is the size that it needs.
 */

/** The version of the library, which is part of some texts. */
#define AZURE_DPS_VERSION "0.1.0"

#define AZURE_DPS_ID_SCOPE_MAX 64         /**< The longest ID scope. */
#define AZURE_DPS_REGISTRATION_ID_MAX 128 /**< The longest registration ID. */

/** A host name: azure_dps_write_host(), azure_dps_hub_write_host(). */
#define AZURE_DPS_HOST_SIZE 254

/** azure_dps_key_write_base64(). */
#define AZURE_DPS_KEY_BASE64_SIZE 89

/** azure_dps_sign(), azure_dps_write_message(), azure_dps_mqtt_write_password(). */
#define AZURE_DPS_SAS_TOKEN_SIZE(id_scope, registration_id) \
    (sizeof "SharedAccessSignature sr=%2fregistrations%2f&skn=registration" + AZURE_DPS_SIGNED_SIZE_ + (id_scope) + \
     (registration_id))

/** azure_dps_mqtt_write_user_name(). */
#define AZURE_DPS_MQTT_USER_NAME_SIZE(id_scope, registration_id) \
    (sizeof "/registrations//api-version=2021-06-01&ClientVersion=azure-dps%2F" AZURE_DPS_VERSION + (id_scope) + \
     (registration_id))

/** azure_dps_mqtt_write_publish(). */
#define AZURE_DPS_MQTT_PUBLISH_SIZE(registration_id, payload) \
    AZURE_DPS_LARGER_(sizeof "$dps/registrations/PUT/iotdps-register/?$rid=65535" + \
                          AZURE_DPS_BODY_SIZE_(registration_id, payload), \
                      sizeof "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=65535&operationId=" + \
                          AZURE_DPS_OPERATION_ID_MAX_)

/** The packet that brings an answer, in the buffer of an MQTT client. */
#define AZURE_DPS_MQTT_ANSWER_SIZE(registration_id, returned) \
    (sizeof "\xff\xff\xff\xff\xff\xff\xff$dps/registrations/res/200/?$rid=65535&retry-after=4294967295" - 1 + \
     AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** azure_dps_run(), and the functions azure_dps_http_…(): requests and answers, in one buffer. */
#define AZURE_DPS_HTTP_SIZE(id_scope, registration_id, payload, returned) \
    AZURE_DPS_LARGER_(AZURE_DPS_LARGER_(AZURE_DPS_HTTP_REGISTER_SIZE_(id_scope, registration_id, payload), \
                                        AZURE_DPS_HTTP_POLL_SIZE_(id_scope, registration_id)), \
                      AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** The body of the last answer. */
#define AZURE_DPS_ANSWER_SIZE(registration_id, returned) (683 + 2 * (registration_id) + (returned))

/** azure_dps_write_record(). */
#define AZURE_DPS_RECORD_SIZE(registration_id, returned) (32 + AZURE_DPS_ANSWER_SIZE(registration_id, returned))

/** azure_dps_hub_write_user_name(). */
#define AZURE_DPS_HUB_USER_NAME_SIZE(hub, device_id) (sizeof "//?api-version=2021-04-12" + (hub) + (device_id))

/** azure_dps_hub_write_password(). */
#define AZURE_DPS_HUB_PASSWORD_SIZE(hub, device_id) \
    (sizeof "SharedAccessSignature sr=%2Fdevices%2F" + AZURE_DPS_SIGNED_SIZE_ + (hub) + (device_id))

/** azure_dps_hub_write_connection_string(). */
#define AZURE_DPS_HUB_CONNECTION_STRING_SIZE(hub, device_id) \
    (sizeof "HostName=;DeviceId=;SharedAccessKey=" - 1 + AZURE_DPS_KEY_BASE64_SIZE + (hub) + (device_id))

/** azure_dps_hub_write_x509_connection_string(). */
#define AZURE_DPS_HUB_X509_CONNECTION_STRING_SIZE(hub, device_id) \
    (sizeof "HostName=;DeviceId=;x509=true" + (hub) + (device_id))

/** azure_dps_hub_write_telemetry_topic() without properties. Each property adds its name and value, encoded, and 2. */
#define AZURE_DPS_HUB_TELEMETRY_TOPIC_SIZE(device_id) (sizeof "devices//messages/events/" + (device_id))

/** azure_dps_twin_write_get_topic(), azure_dps_twin_write_report_topic(). */
#define AZURE_DPS_TWIN_TOPIC_SIZE (sizeof "$iothub/twin/PATCH/properties/reported/?$rid=4294967295")

/** What azure_dps_config.csr adds to a request, from its length in DER. */
#define AZURE_DPS_CSR_IN_BODY(csr) (sizeof ",\"csr\":\"\"" - 1 + AZURE_DPS_BASE64_SIZE_(csr))

/** What a TPM adds to a request, from the lengths of azure_dps_config.endorsement_key and .storage_root_key. */
#define AZURE_DPS_TPM_IN_BODY(endorsement_key, storage_root_key) \
    (sizeof ",\"tpm\":{\"endorsementKey\":\"\",\"storageRootKey\":\"\"}" - 1 + AZURE_DPS_BASE64_SIZE_(endorsement_key) + \
     AZURE_DPS_BASE64_SIZE_(storage_root_key))

/** azure_dps_tpm_decode(), from the length of the base64 text. */
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

/** Starts a run, or another one. `unix_time` is for the token's expiry; with X.509 pass 0. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_start(azure_dps_client *dps, uint32_t now_ms, uint64_t unix_time);

/* azure_dps_step() */
#define AZURE_DPS_SIGN 1     /**< Call azure_dps_sign(). Over MQTT, close the session: the token is its password. */
#define AZURE_DPS_ACTIVATE 2 /**< Call azure_dps_tpm_activate(). Only with a TPM. */
#define AZURE_DPS_SEND 3     /**< Connect if there is no connection, send the request, and hand in the answer. */
#define AZURE_DPS_WAIT 4     /**< Do nothing for `*wait_ms`. */
#define AZURE_DPS_FINISHED 5 /**< Read the outcome. */

/** Returns what to do next: AZURE_DPS_SIGN … AZURE_DPS_FINISHED, or a negative AZURE_DPS_ERR_*. `wait_ms` is for WAIT. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_step(azure_dps_client *dps, uint32_t now_ms, uint32_t *wait_ms);

/**
 * Signs the token, in `buffer`: AZURE_DPS_SAS_TOKEN_SIZE bytes. For AZURE_DPS_SIGN. If it is too small,
 * azure_dps_write_message() says how large it must be.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_sign(azure_dps_client *dps, const azure_dps_signer *signer,
                                                     void *buffer, size_t size);

/**
 * Writes the message that azure_dps_sign() signs, for a signer that is no callback. Have
 * HMAC-SHA256(key, message) computed with the key that azure_dps_get_key() names, and hand it to
 * azure_dps_on_signature(). The message has no zero byte at its end.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_message(const azure_dps_client *dps, void *buffer, size_t size,
                                                              size_t *len);

/** Hands in the signature of azure_dps_write_message(): 32 bytes. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_on_signature(azure_dps_client *dps, const uint8_t *signature);

/** Returns AZURE_DPS_PRIMARY_KEY or AZURE_DPS_SECONDARY_KEY: the key that signs, or that the service accepted. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_get_key(const azure_dps_client *dps);

/** Returns how long to wait for the answer to the request under way, in milliseconds: at most INT32_MAX. 0: no longer. */
AZURE_DPS_MUST_CHECK uint32_t azure_dps_request_time_left(azure_dps_client *dps, uint32_t now_ms);

/** Says that a connection was made. azure_dps_mqtt_on_connack() includes it. Only azure_dps_get_progress() needs it. */
void azure_dps_on_connected(azure_dps_client *dps);

/**
 * Says that there is no answer: AZURE_DPS_ERR_CONNECT, _CLOSED, _STALLED or _STREAM are tried again;
 * AZURE_DPS_ERR_UNTRUSTED, _PROXY_REFUSED, _SIGNER and _TPM end the run. AZURE_DPS_ERR_ARGUMENT for anything else.
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

/** What to report to a user. */
typedef struct azure_dps_progress {
    int32_t what;            /**< AZURE_DPS_PROGRESS_* */
    azure_dps_result result; /**< For RETRYING and FAILED: why. */
    uint32_t wait_ms;        /**< For RETRYING: when. */
    uint32_t failures;       /**< For RETRYING: how many in a row. */
} azure_dps_progress;

/** Returns 1 and fills `progress` if there is something new to report, else 0. Optional. */
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

/** Hands in the return code of CONNACK; 0 is success. */
azure_dps_result azure_dps_mqtt_on_connack(azure_dps_client *dps, uint32_t now_ms, uint8_t return_code);

/**
 * Writes the request that is due: AZURE_DPS_MQTT_PUBLISH_SIZE. `topic` ends with a zero byte, and `body` follows it in the
 * buffer. Publish with QoS 0 or 1, not retained. If the buffer is too small, `*needed` is the size.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_mqtt_write_publish(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                                   size_t size, azure_dps_str *topic,
                                                                   azure_dps_bytes *body, size_t *needed);

/** Hands in a message. Returns 1 if it is the answer to the request under way, 0 if it is not, or AZURE_DPS_ERR_*. */
int32_t azure_dps_mqtt_on_message(azure_dps_client *dps, uint32_t now_ms, azure_dps_str topic, const void *body,
                                  size_t body_len);

/* ---- Over HTTP, on any byte stream, on TLS 1.2 ------------------------------------------------------- */

/*
 * The service may close a connection between two requests. If a request fails on a connection that was used before,
 * close the connection and go on with azure_dps_step(), without azure_dps_on_error(): the same request is due again.
 */

#define AZURE_DPS_HTTPS_PORT 443 /**< HTTP over TLS. */

/** Writes the request that is due, head and body. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_http_write_request(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                                   size_t size, size_t *len);

/** Returns where in the buffer to read to next, and how many bytes fit. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_http_space(azure_dps_client *dps, uint32_t now_ms, void *buffer,
                                                           size_t size, uint8_t **space, size_t *space_len);

/**
 * Says how many bytes were read into azure_dps_http_space(); 0 if the connection was closed. A read that failed is for
 * azure_dps_on_error(). More bytes than there was space for, such as `(size_t)-1`, are AZURE_DPS_ERR_STREAM.
 *
 * Returns 1 if the answer is complete: go on with azure_dps_step(). 0: read on. Else AZURE_DPS_ERR_*: there is no answer,
 * close the connection and go on with azure_dps_step(). `keep_alive` tells whether the connection may be used for the
 * next request.
 */
AZURE_DPS_MUST_CHECK int32_t azure_dps_http_received(azure_dps_client *dps, uint32_t now_ms, void *buffer, size_t size,
                                                     size_t len, bool *keep_alive);

/**
 * Returned by azure_dps_io.read and .write: nothing yet, call again. The time for the request goes on. The next call comes
 * at once, so wait for a moment before you return this.
 */
#define AZURE_DPS_IO_AGAIN (-100)

/**
 * Your blocking connection, clock and delay.
 *
 * A callback that fails returns a negative number of its own, which azure_dps_error.io_error shows if it ended the run.
 */
typedef struct azure_dps_io {
    /** Passed to all callbacks. */
    void *ctx;
    /**
     * Opens TCP and TLS 1.2, and checks the server's certificate for `host`, which ends with a zero byte and is valid
     * during the call. An IPv6 address has no brackets. Returns 0; AZURE_DPS_ERR_UNTRUSTED or
     * AZURE_DPS_ERR_PROXY_REFUSED, which end the run; or any other number, which is tried again. Give up after
     * `timeout_ms`. Called again after `close`, if the service closed the connection.
     */
    int32_t (*connect)(void *ctx, const char *host, uint16_t port, uint32_t timeout_ms);
    /**
     * Returns how many bytes were read, 0 if the peer closed the connection, AZURE_DPS_IO_AGAIN, or another negative.
     * Return AZURE_DPS_IO_AGAIN after a second or so without bytes: time-outs cannot end a read that waits for ever.
     */
    int32_t (*read)(void *ctx, uint8_t *buffer, size_t size);
    /** Returns how many bytes were written, AZURE_DPS_IO_AGAIN, or another negative. */
    int32_t (*write)(void *ctx, const uint8_t *bytes, size_t len);
    /** Closes the connection. Called once after each successful `connect`. */
    void (*close)(void *ctx);
    /** Returns a monotonic clock in milliseconds; it may wrap. It must go on during `delay_ms`. */
    uint32_t (*clock_ms)(void *ctx);
    /** Waits for at least this long. */
    void (*delay_ms)(void *ctx, uint32_t ms);
    /** Called when there is something new to report. May be NULL. */
    void (*observe)(void *ctx, const azure_dps_progress *progress);
} azure_dps_io;

/**
 * Runs from start to end, over HTTP. `buffer` must hold AZURE_DPS_HTTP_SIZE bytes; the assignment is read from it.
 * Remains of the token may be in it afterwards: wipe it if others can read it. Callbacks must not
 * change `signer`, `io` or the buffer, except the bytes that they are given to fill.
 *
 * Returns AZURE_DPS_OK if the device is assigned; else azure_dps_get_error() has the rest.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_run(azure_dps_client *dps, uint64_t unix_time,
                                                    const azure_dps_signer *signer, void *buffer, size_t size,
                                                    const azure_dps_io *io);

/* ---- The outcome ------------------------------------------------------------------------------------ */

/** Where the device belongs. The texts do not end with a zero byte: see azure_dps_str_copy(). */
typedef struct azure_dps_assignment {
    azure_dps_str assigned_hub;       /**< Points into the body. A host name, perhaps `:` and a port. */
    azure_dps_str device_id;          /**< Points into the client, or the record. */
    azure_dps_str payload;            /**< Points into the body. JSON from the operator's webhook; `ptr` is NULL if none. */
    azure_dps_str registration_state; /**< Points into the body. Everything that the service said, as JSON. */
} azure_dps_assignment;

/**
 * Reads the assignment. `body` is the start of the buffer over HTTP, the last message's body over MQTT. The texts
 * are valid as long as the body is unchanged; the device ID, until another run is started or azure_dps_deinit().
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_get_assignment(const azure_dps_client *dps, const void *body,
                                                               size_t body_len, azure_dps_assignment *assignment);

/* azure_dps_get_substatus() */
#define AZURE_DPS_SUBSTATUS_NONE 0                    /**< The service said nothing. */
#define AZURE_DPS_SUBSTATUS_INITIAL_ASSIGNMENT 1      /**< The first assignment. */
#define AZURE_DPS_SUBSTATUS_DEVICE_DATA_MIGRATED 2    /**< Moved to another hub, with its twin. */
#define AZURE_DPS_SUBSTATUS_DEVICE_DATA_RESET 3       /**< Moved to another hub, with a new twin. */
#define AZURE_DPS_SUBSTATUS_REPROVISIONED_TO_INITIAL 4 /**< Moved back to its first hub. */
#define AZURE_DPS_SUBSTATUS_OTHER 255                 /**< Another one. */

/**
 * Returns AZURE_DPS_SUBSTATUS_*: how the device came to its hub, read from `assignment->registration_state`; or
 * AZURE_DPS_ERR_*.
 */
AZURE_DPS_MUST_CHECK int32_t azure_dps_get_substatus(const azure_dps_assignment *assignment);

/**
 * Describes how the run ended, or why azure_dps_init() failed. Returns error->result: AZURE_DPS_OK if the device is
 * assigned, AZURE_DPS_ERR_NOT_STARTED or _NOT_FINISHED if there is no outcome yet.
 */
azure_dps_result azure_dps_get_error(const azure_dps_client *dps, azure_dps_error *error);

/** Writes the error in words: English, for a log. Costs about 9 KB of flash. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_error(const azure_dps_client *dps, char *buffer, size_t size,
                                                            size_t *len);

/** Writes what the service, or the operator's webhook, said about a failure. Empty if nothing. The text is not checked. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_service_message(const azure_dps_client *dps, const void *body,
                                                                      size_t body_len, char *buffer, size_t size,
                                                                      size_t *len);

/* ---- JSON: a payload, a twin, registration_state ----------------------------------------------------- */

/*
 * A value is a text of JSON: what these functions find, or any other. They check it, and return
 * AZURE_DPS_ERR_MALFORMED if it is no JSON or of another kind. What they find points into the text.
 */

/**
 * Finds a member of an object. A member that is `null` is found too. AZURE_DPS_ERR_NOT_FOUND if there is none, or if
 * the text is empty: a payload that the webhook did not return.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_get(azure_dps_str object, azure_dps_str name, azure_dps_str *value);

/** Finds element number `index` of an array. AZURE_DPS_ERR_NOT_FOUND behind the last one. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_at(azure_dps_str array, size_t index, azure_dps_str *value);

/** Writes the characters of a string, escapes resolved. If one of them is a zero byte, `*len` is more than strlen(). */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_write_text(azure_dps_str value, char *buffer, size_t size,
                                                                size_t *len);

/** Reads a whole number from 0 to 4 294 967 295, without fraction or exponent. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_u32(azure_dps_str value, uint32_t *number);

/** Reads `true` or `false`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_json_bool(azure_dps_str value, bool *truth);

/** Returns true if the value is `null`: a property that was deleted, in a change of the twin. */
bool azure_dps_json_is_null(azure_dps_str value);

/* ---- The hub ---------------------------------------------------------------------------------------- */

/**
 * The assigned hub, as in azure_dps_assignment or as kept elsewhere. If its texts are in the buffer of the answer, write
 * host, user name and password elsewhere.
 */
typedef struct azure_dps_hub {
    azure_dps_str assigned_hub; /**< A host name, perhaps `:` and a port. */
    azure_dps_str device_id;    /**< Also the MQTT client ID. */
} azure_dps_hub;

#define AZURE_DPS_HUB_MQTT_PORT 8883 /**< MQTT over TLS. */

/** Writes the host name to connect to, and sets its port if the hub's name has one; else `port` is left alone. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_host(const azure_dps_hub *hub, char *buffer, size_t size,
                                                               size_t *len, uint16_t *port);

/** Writes the MQTT user name. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_user_name(const azure_dps_hub *hub, char *buffer, size_t size,
                                                                    size_t *len);

/**
 * Writes the MQTT password: a SAS token that is valid until `expiry`, in Unix time. With X.509 there is no password.
 * `which_key` is AZURE_DPS_PRIMARY_KEY or AZURE_DPS_SECONDARY_KEY: the key that the service accepted.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_password(const azure_dps_hub *hub,
                                                                   const azure_dps_signer *signer, int32_t which_key,
                                                                   uint64_t expiry, char *buffer, size_t size,
                                                                   size_t *len);

/**
 * Writes what azure_dps_hub_write_password() signs, for a signer that is no callback. The message has no zero byte at its
 * end. azure_dps_hub_write_signed_password() comes next.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_message(const azure_dps_hub *hub, uint64_t expiry, void *buffer,
                                                                  size_t size, size_t *len);

/** Writes the MQTT password with the signature of azure_dps_hub_write_message(), 32 bytes. The same `expiry`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_signed_password(const azure_dps_hub *hub,
                                                                          const uint8_t *signature, uint64_t expiry,
                                                                          char *buffer, size_t size, size_t *len);

/** Writes the connection string for other SDKs. It contains the key. */
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

/** Writes the topic for telemetry, with `count` properties; 0 for none. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_hub_write_telemetry_topic(const azure_dps_hub *hub,
                                                                          const azure_dps_property *properties,
                                                                          size_t count, char *buffer, size_t size,
                                                                          size_t *len);

/* ---- The twin --------------------------------------------------------------------------------------- */

/** Subscribe to it for answers to requests. */
#define AZURE_DPS_TWIN_ANSWER_FILTER "$iothub/twin/res/#"
/** Subscribe to it for changes of desired properties. */
#define AZURE_DPS_TWIN_CHANGE_FILTER "$iothub/twin/PATCH/properties/desired/#"

/** Writes the topic of the request for the whole twin; the body is empty. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_write_get_topic(uint32_t request_id, char *buffer, size_t size,
                                                                     size_t *len);

/** Writes the topic for reported properties; the body is a JSON object. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_write_report_topic(uint32_t request_id, char *buffer, size_t size,
                                                                        size_t *len);

/* azure_dps_twin_message.what */
#define AZURE_DPS_TWIN_OTHER 0    /**< Not about the twin. */
#define AZURE_DPS_TWIN_WHOLE 1    /**< The whole twin. */
#define AZURE_DPS_TWIN_CHANGE 2   /**< A change of desired properties. */
#define AZURE_DPS_TWIN_REPORTED 3 /**< The hub accepted reported properties. */
#define AZURE_DPS_TWIN_REFUSED 4  /**< The hub refused a request. */

/** A message of the twin. Members that `what` has no use for are 0. */
typedef struct azure_dps_twin_message {
    int32_t what;              /**< AZURE_DPS_TWIN_* */
    uint32_t request_id;       /**< WHOLE, REPORTED, REFUSED. */
    azure_dps_str desired;     /**< WHOLE, CHANGE: a JSON object in the body. */
    azure_dps_str reported;    /**< WHOLE: a JSON object in the body. */
    uint64_t desired_version;  /**< WHOLE, CHANGE. Apply a change that is one larger than the last; else ask again. */
    uint64_t reported_version; /**< WHOLE; REPORTED, if the hub says so. */
    uint32_t code;             /**< REFUSED: the hub's six digits, 0 if there are none. */
    uint16_t status;           /**< REFUSED: the hub's status. */
    uint8_t retryable;         /**< REFUSED: 1 if the same request may succeed later. */
    uint8_t unknown_device;    /**< REFUSED: 1: end the session; `status` is for azure_dps_reprovisioning_on_hub(). */
} azure_dps_twin_message;

/**
 * Reads a message. AZURE_DPS_ERR_MALFORMED if its topic is the twin's and its body is not: then only `request_id` is
 * set, 0 for a change.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_read(azure_dps_str topic, const void *body, size_t body_len,
                                                          azure_dps_twin_message *message);

/**
 * Reads a message whose body of this length was skipped, because it does not fit the MQTT client's buffer. What the topic
 * says is not lost; AZURE_DPS_ERR_BUFFER_TOO_SMALL if the body is needed.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_twin_read_skipped(azure_dps_str topic, size_t body_len,
                                                                  azure_dps_twin_message *message);

/* ---- The record: the assignment in flash ------------------------------------------------------------- */

/** The first bytes of a record, from which azure_dps_record_len() tells its length. */
#define AZURE_DPS_RECORD_HEADER_SIZE 16

/**
 * Writes the record of the assignment. `body` as in azure_dps_get_assignment().
 *
 * Over HTTP, pass the buffer as `body` and as `buffer`: the record takes the answer's place, and azure_dps_record_read()
 * has the assignment then. Else the two must not overlap.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_write_record(const azure_dps_client *dps, const void *body,
                                                             size_t body_len, void *buffer, size_t size, size_t *len);

/** Returns the length of a record from its first 16 bytes; 0 if it is no record. */
size_t azure_dps_record_len(const uint8_t *header);

/**
 * Reads a record. `config` says whose it must be: the same id_scope and registration_id. `record_len` may be larger than
 * the record. `key` is AZURE_DPS_PRIMARY_KEY or _SECONDARY_KEY: the key that the service accepted. It may be NULL.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_record_read(const azure_dps_config *config, const void *record,
                                                            size_t record_len, azure_dps_assignment *assignment,
                                                            int32_t *key);

/* ---- The life after the first boot ------------------------------------------------------------------- */

/**
 * Decides when to connect to the hub and when to ask DPS again. Its contents are private. May not be moved.
 *
 *     azure_dps_reprovisioning_init()           at boot, with what is in flash
 *     for (;;) switch (azure_dps_reprovisioning_next(&life, now_ms, &wait_ms, &key)) {
 *         case AZURE_DPS_NEXT_HUB:      azure_dps_record_read(); connect; azure_dps_reprovisioning_on_hub();
 *                                       when the session ends, azure_dps_reprovisioning_on_hub() again
 *         case AZURE_DPS_NEXT_LOOK_UP:  config.lookup = 1, config.first_key = key; azure_dps_init(); a run;
 *                                       azure_dps_reprovisioning_on_assigned() or _on_failed()
 *         case AZURE_DPS_NEXT_REGISTER: the same with config.lookup = 0
 *         case AZURE_DPS_NEXT_WAIT:     do nothing for wait_ms
 *         default:                      misuse: the value is an AZURE_DPS_ERR_*
 *     }
 */
typedef struct azure_dps_reprovisioning {
    uint64_t opaque[24]; /**< Private. */
} azure_dps_reprovisioning;

/** Zero means the default. */
typedef struct azure_dps_reprovisioning_policy {
    uint32_t hub_patience_ms;  /**< How long a hub may be out of reach before DPS is asked. 1 200 000. */
    uint32_t first_pause_ms;   /**< After DPS refused the device, or sent it to a hub that does. 60 000; then it grows. */
    uint32_t longest_pause_ms; /**< 86 400 000. */
    uint32_t jitter_seed;      /**< Any number that differs from device to device. */
    uint8_t lookup;            /**< 1: look up the assignment before registering again. Feature `lookup`. */
} azure_dps_reprovisioning_policy;

/**
 * Initialises it at boot. `record` is what is in flash, whatever it is; NULL and 0 if there is none. `policy` may be
 * NULL. Neither `config` nor the record is needed afterwards.
 */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_reprovisioning_init(azure_dps_reprovisioning *life,
                                                                    const azure_dps_config *config,
                                                                    const azure_dps_reprovisioning_policy *policy,
                                                                    const void *record, size_t record_len);

#define AZURE_DPS_NEXT_HUB 1      /**< Connect to the hub of the record, and report to azure_dps_reprovisioning_on_hub(). */
#define AZURE_DPS_NEXT_LOOK_UP 2  /**< Run with azure_dps_config.lookup = 1. */
#define AZURE_DPS_NEXT_REGISTER 3 /**< Run. */
#define AZURE_DPS_NEXT_WAIT 4     /**< Do nothing for `*wait_ms`. */

/** Returns AZURE_DPS_NEXT_*, or AZURE_DPS_ERR_*. `*key` is the key to use first. `wait_ms` and `key` may be NULL. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_reprovisioning_next(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                           uint32_t *wait_ms, int32_t *key);

/** Hands in a run that assigned the device. Returns 1 if the record must be written now, 0 if nothing changed. */
AZURE_DPS_MUST_CHECK int32_t azure_dps_reprovisioning_on_assigned(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                                  const azure_dps_client *dps, const void *body,
                                                                  size_t body_len);

/** Hands in a run that failed. */
azure_dps_result azure_dps_reprovisioning_on_failed(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                    const azure_dps_client *dps);

/* azure_dps_reprovisioning_on_hub(): one of these, or the status of a refusal, 400 to 599. */
#define AZURE_DPS_HUB_ACCEPTED 1    /**< The session stands. */
#define AZURE_DPS_HUB_CLOSED 2      /**< The device ended the session. */
#define AZURE_DPS_HUB_UNREACHABLE 3 /**< No connection, or the session was lost. */

/** Returns the outcome for the return code of a hub's CONNACK. */
int32_t azure_dps_hub_outcome_from_connack(uint8_t return_code);

/** Hands in how the connection to the hub went, and again how its session ended. */
azure_dps_result azure_dps_reprovisioning_on_hub(azure_dps_reprovisioning *life, uint32_t now_ms, int32_t outcome);

/** Makes the next thing to do a registration: a direct method "reprovision", a button. */
azure_dps_result azure_dps_reprovisioning_provision_again(azure_dps_reprovisioning *life);

/** Writes the pauses that a reboot must not forget, 8 bytes, for memory that a reset keeps. */
azure_dps_result azure_dps_reprovisioning_get_pauses(azure_dps_reprovisioning *life, uint32_t now_ms, uint8_t *pauses);

/**
 * Restores the pauses of azure_dps_reprovisioning_get_pauses() after a reboot. `off_ms` is the time since then, 0 if it is
 * not known. AZURE_DPS_ERR_ARGUMENT if the 8 bytes are no pauses.
 */
azure_dps_result azure_dps_reprovisioning_set_pauses(azure_dps_reprovisioning *life, uint32_t now_ms,
                                                     const uint8_t *pauses, uint32_t off_ms);

/* ---- TPM (feature `tpm`) ------------------------------------------------------------------------------ */

/** Finds the challenge of AZURE_DPS_ACTIVATE in the answer: base64. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_get_challenge(const azure_dps_client *dps, const void *body,
                                                                  size_t body_len, azure_dps_str *challenge);

/** Says that the TPM activated the key of the challenge. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_on_activated(azure_dps_client *dps);

/** Gives the challenge to azure_dps_signer.activate. For AZURE_DPS_ACTIVATE. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_activate(azure_dps_client *dps, const azure_dps_signer *signer,
                                                             const void *body, size_t body_len);

/** The parts of an encrypted key, for TPM2_ActivateCredential and TPM2_Import. They point into the buffer. */
typedef struct azure_dps_tpm_encrypted_key {
    azure_dps_bytes id_object;        /**< TPM2_ActivateCredential: TPM2B_ID_OBJECT. */
    azure_dps_bytes encrypted_secret; /**< TPM2_ActivateCredential: TPM2B_ENCRYPTED_SECRET. */
    azure_dps_bytes import_seed;      /**< TPM2_Import: TPM2B_ENCRYPTED_SECRET. */
    azure_dps_bytes duplicate;        /**< TPM2_Import: TPM2B_PRIVATE. */
    azure_dps_bytes public_area;      /**< TPM2_Import, TPM2_Load: TPMT_PUBLIC of the key. */
    azure_dps_bytes data;             /**< Encrypted with the inner key. No client reads it. */
} azure_dps_tpm_encrypted_key;

/** Decodes a challenge, or the key of azure_dps_tpm_get_authentication_key(), into `buffer`. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_decode(azure_dps_str base64, void *buffer, size_t size,
                                                           size_t *needed, azure_dps_tpm_encrypted_key *key);

/** Finds the key for the hub in an assignment: base64. AZURE_DPS_ERR_NOT_FOUND if there is none. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_tpm_get_authentication_key(const azure_dps_assignment *assignment,
                                                                           azure_dps_str *key);

/* ---- Certificates issued by the service (feature `csr`) ------------------------------------------------ */

/** Decodes certificate number `index` of the issued chain, in DER. AZURE_DPS_ERR_NOT_FOUND behind the last one. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_certificate_write(const azure_dps_assignment *assignment, size_t index,
                                                                  void *buffer, size_t size, size_t *len);

/** Decodes the certificate whose public key is that of `csr`, in DER: the device's own. */
AZURE_DPS_MUST_CHECK azure_dps_result azure_dps_certificate_write_leaf(const azure_dps_assignment *assignment,
                                                                       azure_dps_bytes csr, void *buffer, size_t size,
                                                                       size_t *len);

#ifdef __cplusplus
}
#endif

#endif /* AZURE_DPS_H */
