/* Derives a device key from a group key. Exits with 0 if the key equals the key in Microsoft's tutorial. */
#include <stddef.h>
#include <string.h>

#include "azure_dps.h"

int main(void)
{
    azure_dps_key key;
    char text[89];
    size_t len = 0;
    azure_dps_result result = azure_dps_key_derive(
        &key, azure_dps_str_of("oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="),
        azure_dps_str_of("breakroom499-contoso-tstrsd-007"));
    if (result != AZURE_DPS_OK) return 1;
    result = azure_dps_key_write_base64(&key, text, sizeof text, &len);
    azure_dps_key_wipe(&key);
    if (result != AZURE_DPS_OK) return 2;
    return strcmp(text, "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=") == 0 && len == 44 ? 0 : 3;
}
