/* Calls azure_dps_c and other Rust code. */
#include "azure_dps.h"

uint32_t other_checksum(const uint8_t *bytes, size_t len);

int main(void)
{
    static const uint8_t BYTES[] = {1, 2};
    azure_dps_key key;
    azure_dps_result result = azure_dps_key_from_base64(&key, azure_dps_str_of("AAECAwQFBgcICQoLDA0ODw=="));
    azure_dps_key_wipe(&key);
    return result == AZURE_DPS_OK && other_checksum(BYTES, 2) == (31 + 1) * 31 + 2 ? 0 : 1;
}
