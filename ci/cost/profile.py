#!/usr/bin/env python3
"""Shows what an image of the reference workload spends: flash and instructions for each symbol, and the frames of
the deepest stack.

    profile.py ELF

Runs the image in QEMU one instruction at a time, and reads the program counter and the stack pointer of each. Needs
qemu-system-arm, and binutils for c++filt.
"""

import re, struct, subprocess, sys, tempfile


def symbols(elf):
    """Name, address and size of each function and each constant."""
    data = open(elf, "rb").read()
    offset, = struct.unpack_from("<I", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x2E)
    sections = [struct.unpack_from("<10I", data, offset + i * size) for i in range(count)]
    table = next(section for section in sections if section[1] == 2)
    names = sections[table[6]][4]
    for at in range(table[4], table[4] + table[5], 16):
        name, value, length, kind = struct.unpack_from("<IIIB", data, at)
        name = data[names + name : data.index(b"\0", names + name)].decode()
        if kind & 15 in (1, 2) and length and value < 0x2000_0000:
            yield name, value & ~1, length


def readable(names):
    """The paths of symbols, without their hashes."""
    shown = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return [re.sub(r"::h[0-9a-f]{16}$|\[[0-9a-f]+\]", "", name) for name in shown.splitlines()]


def trace(elf):
    """Program counter and stack pointer of each instruction."""
    with tempfile.NamedTemporaryFile("r") as log:
        subprocess.run(
            ["qemu-system-arm", "-M", "mps2-an385", "-cpu", "cortex-m3", "-nographic", "-singlestep",
             "-semihosting-config", "enable=on,target=native", "-d", "exec,cpu,nochain", "-D", log.name, "-kernel", elf],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120,
        )
        sp = 0
        for line in log:
            if line.startswith("R12="):
                fields = dict(field.split("=") for field in line.split() if "=" in field)
                yield int(fields["R15"], 16), int(fields["R13"], 16)


def main(elf):
    names, addresses, lengths = zip(*symbols(elf))
    # If an address has several names, one is enough.
    functions = sorted({row[0]: row for row in zip(addresses, lengths, readable(names))}.values())
    owner = {at: index for index, (start, length, _) in enumerate(functions) for at in range(start, start + length, 2)}
    run = next(index for index, (_, _, name) in enumerate(functions) if name in ("run", "azure_dps_cortex_m3::workload::run"))
    spent, frames, deepest = {}, [], []
    for pc, sp in trace(elf):
        index = owner.get(pc)
        if index is None:
            continue
        if pc == functions[index][0]:
            if index == run or frames:
                frames.append((index, sp))
        elif index in (caller for caller, _ in frames):
            while frames[-1][0] != index:
                frames.pop()
        else:
            frames.clear()
        if frames:
            spent[index] = spent.get(index, 0) + 1
            if not deepest or sp < deepest[-1][1]:
                deepest = [*frames[1:], (None, sp)]
    rows = {}
    for index, (_, length, name) in enumerate(functions):
        if name.startswith("__INTERRUPTS"):
            continue
        row = rows.setdefault("(strings and tables)" if name.startswith(".Lanon") else name, [0, 0])
        row[0] += length
        row[1] += spent.get(index, 0)
    print(f"{'flash':>6} {'instructions':>12}  symbol")
    for name, (length, count) in sorted(rows.items(), key=lambda row: row[1], reverse=True):
        print(f"{length:>6} {count:>12}  {name}")
    print(f"{'':>6} {sum(spent.values()):>12}  all")
    print(f"\nthe deepest stack, {deepest[0][1] - deepest[-1][1]} bytes:")
    for (index, sp), (_, below) in zip(deepest, deepest[1:]):
        print(f"{sp - below:>6}  {functions[index][2]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
