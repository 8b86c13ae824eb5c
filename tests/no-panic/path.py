#!/usr/bin/env python3
"""Prints from where an image calls the machinery of panics: the chain of inlined functions,
innermost first. The image has line tables."""
import re, subprocess, sys


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def short(name):
    """The type, without generics, and the function."""
    of = re.match(r"<(?:&(?:mut )?)?([\w:]+|\[.*?\])", name)
    function = re.sub(r"::<.*>$", "", name).split(">::")[-1]
    return f"{of[1]}::{function}" if of else function


image = sys.argv[1]
machinery = re.compile(r"core::panicking|(slice_index|mismatch|expect|unwrap)_fail")
chains, function = set(), ""
for line in run("arm-none-eabi-objdump", "--disassemble", "--demangle", image).splitlines():
    if start := re.match(r"[0-9a-f]+ <(.*)>:$", line):
        function = start[1]
    call = re.match(r"\s*([0-9a-f]+):.*\tb\S*\s+[0-9a-f]+ <(.*)>$", line)
    if call and machinery.search(call[2]) and not machinery.search(function):
        lines = run("arm-none-eabi-addr2line", "-e", image, "-i", "-f", "-C", call[1]).splitlines()
        names = [short(name) for name in lines[::2]]
        places = [place.split("/")[-1].split(" ")[0] for place in lines[1::2]]
        chain = [f"{name} ({place})" for name, place in zip(names, places) if "_start" not in name]
        chains.add("    " + " < ".join(chain[:4] + (["…"] if len(chain) > 5 else []) + chain[4:][-1:]))
print("\n".join(sorted(filter(str.strip, chains))))
