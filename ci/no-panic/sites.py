#!/usr/bin/env python3
"""sites.py [--print] IMAGE PLACE...

Finds each call to a panic function in an image. Fails unless each PLACE has exactly one call, and there is no
other call. A place is PANIC-FUNCTION<CALLER. The caller is the first function outside of core that contains the
call. --print shows each call as its chain of inlined functions, innermost first. The image must have line tables
and relocations."""
import re, subprocess, sys


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def short(name):
    """Returns the path without generics. It is the same for both mangling schemes of rustc."""
    name = re.sub(r"\{closure#\d+\}", "{{closure}}", name)
    name = re.sub(r"^<(?:&(?:mut )?)?([\w:]+|\[.*?\]).*?>::(?=\w+(?:::<|::\{|$))", r"\1::", name)
    while (less := re.sub(r"(?:::|(?<=\w))<[^<>]*>", "", name)) != name:
        name = less
    return name


arguments = sys.argv[1:]
shown = "--print" in arguments
image, *argued = [argument for argument in arguments if argument != "--print"]
machinery = re.compile(r"core::panicking|(slice_index|mismatch|expect|unwrap)_fail")
found, failed, function = {}, False, ""
for line in run("arm-none-eabi-objdump", "--disassemble", "--demangle", "--reloc", image).splitlines():
    if start := re.match(r"[0-9a-f]+ <(.*)>:$", line):
        function = start[1]
    if not machinery.search(function):
        # This search does not see a long call or a call through a pointer.
        if (relocation := re.match(r"\s*[0-9a-f]+: (R_ARM_\w+)\s+(.*)$", line)) and machinery.search(relocation[2]):
            if not re.fullmatch(r"R_ARM_THM_(CALL|JUMP24|JUMP19)", relocation[1]):
                print(f"    {relocation[1]} to {relocation[2]} in {function}")
                failed = True
        call = re.match(r"\s*([0-9a-f]+):.*\tb\S*\s+[0-9a-f]+ <(.*)>$", line)
        if call and machinery.search(call[2]):
            lines = run("arm-none-eabi-addr2line", "-e", image, "-i", "-f", "-C", call[1]).splitlines()
            names = [short(name) for name in lines[::2]]
            where = [place.split("/")[-1].split(" ")[0] for place in lines[1::2]]
            outside = next((name for name in names if not re.match(r"core::|\[", name)), names[-1])
            chain = " < ".join(f"{name} ({place})" for name, place in zip(names, where) if name != "_start")
            found.setdefault(f"{short(call[2])}<{outside}", []).append(f"{short(call[2])} < {chain}")

# A pointer in data, such as a table of functions.
for line in run("arm-none-eabi-objdump", "--reloc", "--demangle", image).splitlines():
    if (relocation := re.match(r"[0-9a-f]+ (R_ARM_ABS32)\s+(.*)$", line)) and machinery.search(relocation[2]):
        print(f"    a pointer to {relocation[2]}")
        failed = True
for place in sorted({*found, *argued}):
    chains = found.get(place, [])
    if shown or place not in argued:
        print("".join(f"    {chain}\n" for chain in chains), end="")
    if place in argued and len(chains) != 1:
        print(f"    {place} has {len(chains)} calls, not 1")
    failed |= place not in argued or len(chains) != 1
sys.exit(failed or not found)
