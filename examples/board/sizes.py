"""Prints the flash and the static RAM of a firmware, by part: sizes.py ELF

An instruction counts for the source file that it comes from, also if it was inlined elsewhere. An
instruction of Rust's own library counts for the file that inlined it. C is compiled without line
numbers: there, and for data, the name of the symbol decides.
"""

import bisect
import collections
import pathlib
import re
import subprocess
import sys

elf = sys.argv[1]
repository = pathlib.Path(__file__).resolve().parent.parent.parent
examples = re.escape(str(repository / "examples"))

# Each part has patterns for its source files and its Rust paths. If no pattern matches, the part is "the rest".
PARTS = {
    "azure-dps": (
        rf"^{re.escape(str(repository))}/src/"
        r"|/(hmac|sha2|digest|block-buffer|hybrid-array|crypto-common|ctutils|cmov|base64|base64ct|httparse|zeroize)-\d",
        r"azure_dps::|hmac::|sha2::|digest::|base64|httparse::",
    ),
    "MQTT, the hub": (
        r"/examples/(embassy/src/hub|(embassy/src/\.\./\.\./)?mqtt_embedded/link)\.rs|/(mqttrs-\d|heapless-0\.7\.)",
        r"mqttrs::|azure_dps_embassy::hub::",
    ),
    "TLS": (
        rf"^{examples}/((embassy|firmware)/src/tls|board/src/(mbedtls|memory))\.rs"
        r"|/(mbedtls-rs|mbedtls-rs-sys|tinyrlibc|linked_list_allocator)-\d",
        r"mbedtls_rs|tinyrlibc::|azure_dps_(embassy|firmware)::tls::|mps2_an385::(mbedtls|memory)::",
    ),
    "TCP/IP, Ethernet": (
        rf"^{examples}/(firmware/src/net|board/src/(lan9118|smoltcp))\.rs|/(smoltcp|managed|embassy-net)-\d",
        r"smoltcp::|embassy_net::|azure_dps_firmware::net::|azure_dps_embassy::start_network::.*VAR|mps2_an385::lan9118::",
    ),
    "executor, timers": (
        rf"^{examples}/board/src/embassy\.rs|/(embassy-[a-z-]+|cordyceps)-\d",
        r"\bembassy_(executor|time|sync|embedded_hal|futures)|mps2_an385::embassy::",
    ),
    "the tasks' futures": (r"^$", r"::POOL$"),
    "storage": (
        rf"^{examples}/board/src/flash\.rs|/(sequential-storage|embedded-storage|embedded-storage-async)-\d",
        r"sequential_storage::|mps2_an385::flash::",
    ),
}
REST = "the rest"
NAMELESS = "strings and tables without a name"
# C and assembly that do not belong to mbedTLS.
RUNTIME = re.compile(r"^(__|_stext|Reset|PreInit|DefaultHandler|HardFault|SysTick|main$|mem(cpy|set|cmp|move)|\$)")


def tool(name, *arguments, **options):
    command = [f"arm-none-eabi-{name}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def by_file(inlined):
    """Returns the part, from the source files of an instruction, innermost first. None if no source is known."""
    known = [file for file in inlined if "/" in file]
    for file in known:
        if "/rust/library/" in file or "/rustc/" in file:
            continue
        return next((part for part, (files, _) in PARTS.items() if re.search(files, file)), REST)
    return REST if known else None


def by_name(name):
    # The compiler gives some constants of Rust a name of its own.
    if name.startswith(".Lanon"):
        return NAMELESS
    if "::" in name:
        return next((part for part, (_, paths) in PARTS.items() if re.search(paths, name)), REST)
    return REST if RUNTIME.search(name) else "TLS"


sections = {}
for line in tool("size", "-A", elf).splitlines():
    match line.split():
        case [name, size, address] if name.startswith("."):
            sections[name] = int(size), int(address)

symbols = []  # (address, size, name)
for line in tool("nm", "-S", "-C", "-n", elf).splitlines():
    if found := re.match(r"([0-9a-f]{8}) ([0-9a-f]{8}) \w (.*)", line):
        symbols.append((int(found[1], 16), int(found[2], 16), found[3]))
starts = [symbol[0] for symbol in symbols]


def symbol_at(address):
    at = bisect.bisect_right(starts, address) - 1
    return symbols[at][2] if at >= 0 and address < starts[at] + symbols[at][1] else None


flash, ram = collections.Counter(), collections.Counter()

size, start = sections[".text"]
addresses = "\n".join(hex(address) for address in range(start, start + size, 2))
answer = tool("addr2line", "-a", "-i", "-e", elf, input=addresses)
for block in answer.split("0x")[1:]:
    address, *places = block.splitlines()
    part = by_file([place.rsplit(":", 1)[0] for place in places])
    # Padding has no symbol.
    flash[part or by_name(symbol_at(int(address, 16)) or "__padding")] += 2

for section, counters in {
    ".vector_table": [flash], ".rodata": [flash], ".data": [flash, ram], ".bss": [ram], ".uninit": [ram]
}.items():
    size, start = sections[section]
    nameless = size
    for address, length, name in symbols:
        if start <= address < start + size:
            nameless -= length
            for counter in counters:
                counter[by_name(name)] += length
    for counter in counters:
        counter[NAMELESS] += nameless

print(f"{'bytes':34}{'flash':>9}{'static RAM':>12}")
for part in [*PARTS, REST, NAMELESS]:
    print(f"{part:34}{flash[part]:9}{ram[part]:12}")
print(f"{'all':34}{flash.total():9}{ram.total():12}")
