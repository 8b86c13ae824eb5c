#define _GNU_SOURCE
#include "device.h"

#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEY_VARIABLE "AZURE_DPS_SYMMETRIC_KEY"
#define SECOND_KEY_VARIABLE "AZURE_DPS_SECONDARY_KEY"

/* The exit codes of examples/gateway. */
#define EXIT_OTHER 1
#define EXIT_USAGE 2
#define EXIT_REFUSED 3
#define EXIT_DISABLED 4
#define EXIT_UNAUTHORIZED 5
#define EXIT_BUSY 6
#define EXIT_UNREACHABLE 7
#define EXIT_NOT_DPS 8
#define EXIT_UNASSIGNED 9

/* The service's code for "there is no such enrollment". */
#define ENROLLMENT_NOT_FOUND 404201u

static const char HELP[] =
    "  --id-scope SCOPE           such as 0ne00002193\n"
    "  --registration-id ID       the name under which the device is enrolled\n"
    "  --host HOST[:PORT]         the address of DPS [default: global.azure-devices-provisioning.net]\n"
    "  --ca FILE                  trust only these CA certificates (PEM), not the system's\n"
    "  --key-file FILE            the device's key, base64 [env: " KEY_VARIABLE "]\n"
    "  --secondary-key-file FILE  the second key [env: " SECOND_KEY_VARIABLE "]\n"
    "  --certificate-file-path FILE, --key-file-path FILE\n"
    "                             a certificate and its private key (PEM), instead of a key\n"
    "  --payload JSON             a JSON object for the operator's webhook\n"
    "  --connect                  also connect to the hub: telemetry, twin (over MQTT)\n"
    "  --hub-address HOST:PORT    connect to this host instead of the assigned hub, such as the emulator\n"
    "  --record FILE              store the assignment in this file (life)\n"
    "  --status                   show where the device is assigned, and register nothing (over HTTP)\n"
    "  --timeout SECONDS          the time limit of the run [default: 600]\n"
    "\n"
    "Exit codes:\n"
    "   0  assigned\n"
    "   1  another failure\n"
    "   2  usage: an argument, an ID, the key, the payload or the endpoint is invalid\n"
    "   3  refused: the service, its operator or the webhook rejects the device\n"
    "   4  disabled: the operator has disabled the enrollment\n"
    "   5  unauthorized: the service rejects the key or the certificate\n"
    "   6  busy: the service is throttling or failing, or still assigning at the end of the time-out\n"
    "   7  unreachable: no connection, no trusted certificate, or no answer\n"
    "   8  not DPS: another server answered, such as a captive portal\n"
    "   9  unassigned: --status found no assignment\n"
    "  11  the hub rejects the device\n"
    "  12  the hub is unreachable\n";

static void usage_error(const char *what, const char *which)
{
    fprintf(stderr, "error: %s%s. See --help.\n", what, which);
    exit(EXIT_USAGE);
}

/* Ends the program if the file cannot be opened. NULL is accepted. */
static void check_file(const char *file_name)
{
    if (file_name == NULL) return;
    FILE *file = fopen(file_name, "r");
    if (file == NULL) usage_error("cannot read ", file_name);
    fclose(file);
}

/* Reads a key from the file, or from the environment if there is no file. Returns false if there is neither.
 */
static bool read_key(azure_dps_key *key, const char *file_name, const char *variable)
{
    char text[512] = "";
    size_t len = 0;
    if (file_name != NULL) {
        FILE *file = fopen(file_name, "r");
        if (file == NULL) usage_error("cannot read ", file_name);
        /* The buffer of stdio would keep a copy of the key. */
        setvbuf(file, NULL, _IONBF, 0);
        len = fread(text, 1, sizeof text - 1, file);
        fclose(file);
    } else {
        char *value = getenv(variable);
        if (value == NULL) return false;
        len = strlen(value);
        if (len >= sizeof text) len = sizeof text - 1;
        memcpy(text, value, len);
        explicit_bzero(value, strlen(value));
        unsetenv(variable);
    }
    while (len > 0 && isspace((unsigned char)text[len - 1])) len--;
    azure_dps_str base64 = {text, len};
    azure_dps_result result = azure_dps_key_from_base64(key, base64);
    explicit_bzero(text, sizeof text);
    if (result != AZURE_DPS_OK) {
        usage_error("not a base64 key: ", file_name != NULL ? file_name : variable);
    }
    return true;
}

void device_read(struct device *device, int argc, char **argv, const char *summary)
{
    static const struct option OPTIONS[] = {
        {"id-scope", required_argument, NULL, 's'},
        {"registration-id", required_argument, NULL, 'r'},
        {"host", required_argument, NULL, 'e'},
        {"ca", required_argument, NULL, 'a'},
        {"key-file", required_argument, NULL, 'k'},
        {"secondary-key-file", required_argument, NULL, '2'},
        {"certificate-file-path", required_argument, NULL, 'c'},
        {"key-file-path", required_argument, NULL, 'p'},
        {"payload", required_argument, NULL, 'j'},
        {"connect", no_argument, NULL, 'n'},
        {"hub-address", required_argument, NULL, 'b'},
        {"record", required_argument, NULL, 'd'},
        {"status", no_argument, NULL, 'l'},
        {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *key_file = NULL, *second_key_file = NULL;
    memset(device, 0, sizeof *device);
    for (int option; (option = getopt_long(argc, argv, "h", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case 's': device->id_scope = optarg; break;
        case 'r': device->registration_id = optarg; break;
        case 'e': device->endpoint = optarg; break;
        case 'a': device->ca_file = optarg; break;
        case 'k': key_file = optarg; break;
        case '2': second_key_file = optarg; break;
        case 'c': device->certificate = optarg; break;
        case 'p': device->private_key = optarg; break;
        case 'j': device->payload = optarg; break;
        case 'b': device->hub_address = optarg; break;
        case 'n': device->connect = true; break;
        case 'd': device->record = optarg; break;
        case 'l': device->lookup = true; break;
        case 't': {
            char *end;
            unsigned long seconds = strtoul(optarg, &end, 10);
            if (*end != '\0' || seconds == 0 || seconds > 86400) {
                usage_error("--timeout takes 1 to 86400, not ", optarg);
            }
            device->timeout_ms = (uint32_t)seconds * 1000;
            break;
        }
        case 'h':
            printf("%s\n\nUsage: %s [OPTION…]\n\n%s", summary, argv[0], HELP);
            exit(EXIT_SUCCESS);
        default: exit(EXIT_USAGE);
        }
    }
    if (optind < argc) usage_error("unexpected argument: ", argv[optind]);
    if (device->id_scope == NULL) usage_error("--id-scope", " is missing");
    if (device->registration_id == NULL) usage_error("--registration-id", " is missing");
    check_file(device->ca_file);
    check_file(device->certificate);
    check_file(device->private_key);
    if ((device->certificate == NULL) != (device->private_key == NULL)) {
        usage_error("a certificate needs", " --certificate-file-path and --key-file-path");
    }
    if (device->certificate != NULL) return;
    if (!read_key(&device->keys[0], key_file, KEY_VARIABLE)) {
        usage_error("there is no key: use --key-file or ", KEY_VARIABLE);
    }
    device->has_second_key = read_key(&device->keys[1], second_key_file, SECOND_KEY_VARIABLE);
}

azure_dps_config device_config(const struct device *device)
{
    azure_dps_config config = {0};
    config.id_scope = azure_dps_str_of(device->id_scope);
    config.registration_id = azure_dps_str_of(device->registration_id);
    config.payload = azure_dps_str_of(device->payload);
    config.attestation = device->certificate != NULL ? AZURE_DPS_X509 : AZURE_DPS_SYMMETRIC_KEY;
    config.timeout_ms = device->timeout_ms;
    config.lookup = device->lookup;
    for (const char *c = device->registration_id; *c != '\0'; c++) {
        config.jitter_seed = config.jitter_seed * 31 + (unsigned char)*c;
    }
    return config;
}

const azure_dps_signer *device_signer(struct device *device, azure_dps_signer *signer)
{
    if (device->certificate != NULL) return NULL;
    *signer =
        device->has_second_key ? azure_dps_two_keys_signer(device->keys) : azure_dps_key_signer(device->keys);
    return signer;
}

void device_wipe(struct device *device)
{
    azure_dps_key_wipe(&device->keys[0]);
    azure_dps_key_wipe(&device->keys[1]);
}

void device_print_line(FILE *file, const char *label, azure_dps_str text)
{
    fprintf(file, "%-13s", label);
    for (size_t i = 0; i < text.len; i++)
        fputc(iscntrl((unsigned char)text.ptr[i]) ? '?' : text.ptr[i], file);
    fputc('\n', file);
}

int device_print(const azure_dps_assignment *assignment)
{
    device_print_line(stdout, "hub:", assignment->assigned_hub);
    device_print_line(stdout, "device ID:", assignment->device_id);
    device_print_line(stdout,
          "payload:", assignment->payload.ptr != NULL ? assignment->payload : azure_dps_str_of("none"));
    return EXIT_SUCCESS;
}

/* The exit code says who must act. */
static int exit_code(const azure_dps_error *error, bool lookup)
{
    switch (error->result) {
    case AZURE_DPS_ERR_INVALID_ID_SCOPE:
    case AZURE_DPS_ERR_INVALID_REGISTRATION_ID:
    case AZURE_DPS_ERR_INVALID_KEY:
    case AZURE_DPS_ERR_INVALID_PAYLOAD:
    case AZURE_DPS_ERR_INVALID_ENDPOINT: return EXIT_USAGE;
    case AZURE_DPS_ERR_DISABLED: return EXIT_DISABLED;
    case AZURE_DPS_ERR_UNASSIGNED: return EXIT_UNASSIGNED;
    case AZURE_DPS_ERR_UNTRUSTED:
    case AZURE_DPS_ERR_PROXY_REFUSED: return EXIT_UNREACHABLE;
    case AZURE_DPS_ERR_REFUSED:
        if (lookup && error->code == ENROLLMENT_NOT_FOUND) return EXIT_UNASSIGNED;
        if (error->fault == AZURE_DPS_FAULT_CALLER) return EXIT_REFUSED;
        break;
    default: break;
    }
    switch (error->fault) {
    case AZURE_DPS_FAULT_CREDENTIAL: return EXIT_UNAUTHORIZED;
    case AZURE_DPS_FAULT_REFUSED: return EXIT_REFUSED;
    case AZURE_DPS_FAULT_BUSY: return EXIT_BUSY;
    case AZURE_DPS_FAULT_PEER: return EXIT_NOT_DPS;
    case AZURE_DPS_FAULT_TRANSPORT: return EXIT_UNREACHABLE;
    default: return EXIT_OTHER;
    }
}

int device_report(const azure_dps_client *dps, azure_dps_result result, const void *body, size_t body_len,
                  bool lookup)
{
    static const char *const FAULTS[] = {"?", "caller", "credential", "refused", "busy", "peer", "transport"};
    azure_dps_error error;
    char text[1024];
    size_t len;
    fprintf(stderr, "error: %s\n", azure_dps_result_name(result));
    if (azure_dps_get_error(dps, &error) != result) {
        /* The run did not fail. An argument is wrong, or this program. */
        error = (azure_dps_error){.result = result};
        return exit_code(&error, lookup);
    }
    if (azure_dps_write_error(dps, text, sizeof text, &len) == AZURE_DPS_OK) {
        device_print_line(stderr, "  seen:", azure_dps_str_of(text));
    }
    fprintf(stderr, "  fault:     %s%s\n", error.fault < 7 ? FAULTS[error.fault] : "?",
            error.retryable ? ", a new run may succeed later" : "");
    if (error.code != 0) fprintf(stderr, "  code:      %" PRIu32 "\n", error.code);
    if (error.tracking_id[0] != '\0') {
        device_print_line(stderr, "  tracking:", azure_dps_str_of(error.tracking_id));
    }
    if (azure_dps_write_service_message(dps, body, body_len, text, sizeof text, &len) == AZURE_DPS_OK &&
        len > 0) {
        device_print_line(stderr, "  reason:", azure_dps_str_of(text));
    }
    return exit_code(&error, lookup);
}

uint32_t device_clock_ms(void *ctx)
{
    struct timespec now;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}

void device_delay_ms(void *ctx, uint32_t ms)
{
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)ctx;
    while (nanosleep(&left, &left) != 0) continue;
}
