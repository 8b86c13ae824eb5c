#!/usr/bin/env python3
"""sites.py [--print] IMAGE FUNCTION...

Finds from where an image calls the machinery of panics, and fails unless each of the functions has
one such place, and nothing else has. --print shows each place as its chain of inlined
functions, innermost first. The image has line tables."""
import re, subprocess, sys


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def short(name):
    """The path, without generics."""
    name = re.sub(r"^<(?:&(?:mut )?)?([\w:]+|\[.*?\]).*?>::(?=\w+(?:::<|$))", r"\1::", name)
    while (less := re.sub(r"::<[^<>]*>", "", name)) != name:
        name = less
    return name


arguments = sys.argv[1:]
shown = "--print" in arguments
image, *argued = [argument for argument in arguments if argument != "--print"]
machinery = re.compile(r"core::panicking|(slice_index|mismatch|expect|unwrap)_fail")
chains, function = {}, ""
for line in run("arm-none-eabi-objdump", "--disassemble", "--demangle", image).splitlines():
    if start := re.match(r"[0-9a-f]+ <(.*)>:$", line):
        function = start[1]
    call = re.match(r"\s*([0-9a-f]+):.*\tb\S*\s+[0-9a-f]+ <(.*)>$", line)
    if call and machinery.search(call[2]) and not machinery.search(function):
        lines = run("arm-none-eabi-addr2line", "-e", image, "-i", "-f", "-C", call[1]).splitlines()
        names = [short(call[2])] + [short(name) for name in lines[::2]]
        places = [""] + [" (" + place.split("/")[-1].split(" ")[0] + ")" for place in lines[1::2]]
        chain = [name + place for name, place in zip(names, places) if "_start" not in name]
        chains[" < ".join(chain[:5] + (["…"] if len(chain) > 6 else []) + chain[5:][-1:])] = names[1:]

failed = not chains
places = {function: 0 for function in argued}
for chain, names in sorted(chains.items()):
    innermost = next((name for name in names if name in places), None)
    if innermost:
        places[innermost] += 1
    if shown or not innermost:
        print(f"    {chain}")
    failed |= not innermost
for function, count in places.items():
    if count != 1:
        print(f"    {function} has {count} places")
        failed = True
sys.exit(failed)
