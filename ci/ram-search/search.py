#!/usr/bin/env python3
"""Runs an image in QEMU, or a program on this machine, and searches its memory and registers for secrets.

    search.py ELF [LENGTH [c]]

Lists the secrets that are left after each step. Fails if a secret is left that the step does not need. LENGTH is
the length of the shortest piece that counts: 4 bytes by default, 8 characters of text. With `c`, the program is
c/main.c.

The image halts in its function `halt`. Then QEMU's debugger stub saves the RAM and the registers. The program on this
machine prints its step and waits for a line. Then the script reads all writable memory from /proc, and the registers
with ptrace. In a register, the shortest piece has 4 bytes on the Cortex-M3 and 8 bytes on Linux. A secret in Linux's
vector registers is listed but is not a failure: safe code cannot wipe them, and other code overwrites them in time.
"""

import base64, ctypes, hashlib, hmac, os, socket, struct, subprocess, sys, tempfile, time

GROUP_KEY = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=="
REGISTRATION = "0ne00002193%2fregistrations%2fbreakroom499-contoso-tstrsd-007\n1700003600"
HUB = "contoso-toasters-hub-1098.azure-devices.net%2Fdevices%2Fbreakroom499-contoso-tstrsd-007\n1700003600"
RAM, RAM_SIZE = 0x2000_0000, 4 << 20
# The length of the shortest piece that counts, at any address. Four characters of base64 are three bytes, and also fit
# in a register.
LENGTH = int(sys.argv[2]) if len(sys.argv) > 2 else 4
TEXT_LENGTH = 8


# SHA-256, to compute its intermediate values.
def primes():
    n = 2
    while True:
        if all(n % d for d in range(2, n)):
            yield n
        n += 1


def root_bits(n, power):
    """Returns the first 32 bits after the binary point of n^(1/power)."""
    target, low, high = n << 32 * power, 0, n << 32
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**power <= target else (low, middle)
    return low & 0xFFFFFFFF


first = [p for p, _ in zip(primes(), range(64))]
K = [root_bits(p, 3) for p in first]
H = [root_bits(p, 2) for p in first[:8]]
rotate = lambda x, n: (x >> n | x << 32 - n) & 0xFFFFFFFF


def schedule(block):
    w = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & 0xFFFFFFFF)
    return w


def compress(state, block):
    a, b, c, d, e, f, g, h = state
    for w, k in zip(schedule(block), K):
        t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (e & f ^ ~e & g) + k + w
        t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (t1 + t2) & 0xFFFFFFFF, a, b, c, (d + t1) & 0xFFFFFFFF, e, f, g
    return [(x + y) & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d, e, f, g, h))]


def sha256(message):
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64) + struct.pack(">Q", 8 * len(message))
    state = H
    for at in range(0, len(padded), 64):
        state = compress(state, padded[at : at + 64])
    return struct.pack(">8I", *state)


assert sha256(b"x" * 100) == hashlib.sha256(b"x" * 100).digest()


def swapped(data):
    """Returns the bytes as a little-endian machine stores the big-endian words of SHA-256."""
    return struct.pack(f"<{len(data) // 4}I", *struct.unpack(f">{len(data) // 4}I", data))


def key_forms(name, key):
    """Yields each form that a key has during HMAC-SHA256."""
    yield f"{name}", key
    yield f"{name}, words swapped", swapped(key)
    yield f"{name}, base64", base64.b64encode(key)
    for pad, byte in (("ipad", 0x36), ("opad", 0x5C)):
        block = bytes(b ^ byte for b in key.ljust(64, b"\0"))
        yield f"{name} ^ {pad}", block
        # Any sixteen consecutive words determine the others. The first sixteen are the block.
        yield f"{name} ^ {pad}, schedule", struct.pack("<64I", *schedule(block))
        # These values can make signatures, like the key.
        state = struct.pack("<8I", *compress(H, block))
        yield f"{name} ^ {pad}, state", state
        yield f"{name} ^ {pad}, state, words swapped", swapped(state)
        # The word order of x86's SHA instructions.
        a, b, c, d, e, f, g, h = struct.unpack("<8I", state)
        yield f"{name} ^ {pad}, state of SHA-NI", struct.pack("<8I", f, e, b, a, h, g, d, c)


def signature_forms(name, signature):
    yield name, signature
    yield f"{name}, words swapped", swapped(signature)
    text = base64.b64encode(signature)
    yield f"{name}, as text", text
    yield f"{name}, as text", text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")


def pieces(forms, shortest):
    found = {}
    for name, form in forms:
        length = TEXT_LENGTH if form.isascii() else shortest
        for at in range(len(form) - length + 1):
            piece = form[at : at + length]
            # Padding is not a secret.
            if len(set(piece)) > 2:
                found.setdefault(piece, name)
    return found


group = base64.b64decode(GROUP_KEY)
device = hmac.digest(group, b"breakroom499-contoso-tstrsd-007", "sha256")
GROUP = list(key_forms("group key", group))
DEVICE = list(key_forms("device key", device))
SIGNATURES = [
    *signature_forms("signature for DPS", hmac.digest(device, REGISTRATION.encode(), "sha256")),
    *signature_forms("signature for the hub", hmac.digest(device, HUB.encode(), "sha256")),
]
# After each step, these values must be in memory. If the search does not find them, the search is broken.
STEPS = [
    ("the group key has been read", {"group key"}),
    ("the device key has been derived", {"group key", "device key"}),
    ("both have been dropped, and the caller has the device key's text", {"device key, base64"}),
    ("the device key has been read from it, and the text wiped", {"device key"}),
    ("a token for DPS is in the caller's buffer", {"device key", "signature for DPS, as text"}),
    ("provisioned; a token and a connection string for the hub were written and wiped", {"device key"}),
    ("everything has been dropped", set()),
]
# The steps of c/main.c.
C_STEPS = [
    ("the device key has been derived", {"device key"}),
    ("the caller has its text, and it has been wiped", {"device key, base64"}),
    ("it has been read from the text, which was wiped", {"device key"}),
    ("invalid key texts replaced the key", set()),
    ("a password for DPS is in the caller's buffer", {"device key", "signature for DPS, as text"}),
    ("provisioned; a password and a connection string for the hub were written and wiped", {"device key"}),
    ("a run was abandoned, an initialization failed, and everything has been wiped", set()),
]
# A run over HTTP keeps the signature for its polls until the assignment.
MAY_BE_KEPT = {5: {"signature for DPS"}}


class Stub:
    """QEMU's debugger stub."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        for _ in range(600):
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.1)
        else:
            sys.exit("QEMU does not start")
        self.stream = self.socket.makefile("rb")

    def ask(self, command):
        data = command.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) & 255))
        while self.stream.read(1) != b"$":
            pass
        answer = bytearray()
        while (byte := self.stream.read(1)) != b"#":
            answer += byte
        self.stream.read(2)
        self.socket.sendall(b"+")
        return answer.decode()

    def registers(self):
        """Returns r0 to r12, sp, lr and pc. The Cortex-M3 has no floating-point registers."""
        return bytes.fromhex(self.ask("g").replace("x", "0"))[:64]

    def memory(self, path):
        # A command of QEMU's monitor, a thousand times faster than the stub's own command.
        self.ask("qRcmd," + f"pmemsave {RAM:#x} {RAM_SIZE:#x} \"{path}\"".encode().hex())
        with open(path, "rb") as file:
            return file.read()

    def go(self, address):
        self.ask("Pf=" + struct.pack("<I", address & ~1).hex())


def symbol(elf, wanted):
    data = open(elf, "rb").read()
    offset, = struct.unpack_from("<I", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x2E)
    sections = [struct.unpack_from("<10I", data, offset + i * size) for i in range(count)]
    table = next(s for s in sections if s[1] == 2)
    names = sections[table[6]][4]
    for at in range(table[4], table[4] + table[5], 16):
        name, value = struct.unpack_from("<II", data, at)
        if data[names + name : data.index(b"\0", names + name)].decode() == wanted:
            return value & ~1
    sys.exit(f"no symbol {wanted}")


class Board:
    """An emulated Cortex-M3."""

    def __init__(self, elf, folder):
        path = os.path.join(folder, "gdb")
        self.halt, self.dump = symbol(elf, "halt"), os.path.join(folder, "ram")
        self.process = subprocess.Popen(
            ["qemu-system-arm", "-M", "mps2-an385", "-cpu", "cortex-m3", "-display", "none", "-serial", "none",
             "-monitor", "none", "-S", "-gdb", f"unix:{path},server=on,wait=off", "-kernel", elf],
            stdin=subprocess.DEVNULL,
        )
        self.stub, self.return_to = Stub(path), None
        # Without this request, the stub sets no register.
        self.stub.ask("qXfer:features:read:target.xml:0,ffb")
        self.stub.ask(f"Z1,{self.halt:x},2")

    # A word.
    register_size = 4

    def halted(self):
        """Runs to the next halt. Returns its place, stack pointer, memory areas and named registers."""
        if self.return_to is not None:
            self.stub.go(self.return_to)
        self.stub.ask("c")
        registers = self.stub.registers()
        words = struct.unpack("<16I", registers)
        sp, self.return_to, pc = words[13:]
        if pc != self.halt:
            sys.exit(f"stopped at {pc:#x}")
        return words[0], sp, [(RAM, self.stub.memory(self.dump))], [
            (f"r{at // 4}", registers[at : at + 4]) for at in range(0, len(registers), 4)
        ]


VECTORS = "the vector registers"


class Vector(ctypes.Structure):
    """`struct iovec` of ptrace(2)."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Program:
    """A process of this machine."""

    # A general register.
    register_size = 8
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(self, request, address=0, data=None):
        call = self.libc.ptrace
        call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        if call(request, self.process.pid, address, data) == -1:
            sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")

    def registers(self):
        """Returns each general register, and all other registers as the processor saves them."""
        PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_GETREGSET, PTRACE_DETACH = 0x4206, 0x4207, 0x4204, 17
        NT_PRSTATUS, NT_X86_XSTATE = 1, 0x202
        self.ptrace(PTRACE_SEIZE)
        self.ptrace(PTRACE_INTERRUPT)
        os.waitpid(self.process.pid, 0)
        sets = []
        for kind in (NT_PRSTATUS, NT_X86_XSTATE):
            area = ctypes.create_string_buffer(1 << 14)
            vector = Vector(ctypes.addressof(area), len(area))
            self.ptrace(PTRACE_GETREGSET, kind, ctypes.addressof(vector))
            sets.append(area.raw[: vector.length])
        self.ptrace(PTRACE_DETACH)
        general, others = sets
        return [("a general register", general[at : at + 8]) for at in range(0, len(general), 8)] + [(VECTORS, others)]

    def __init__(self, elf):
        self.process = subprocess.Popen([elf], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.at = None

    def halted(self):
        if self.at is not None:
            self.process.stdin.write(b"\n")
        self.at = int(self.process.stdout.read(2) or 0)
        folder = f"/proc/{self.process.pid}"
        # The file has the number of the call, its arguments (first the file descriptor, here standard input), sp and
        # pc.
        while (call := open(f"{folder}/syscall").read().split())[1:2] != ["0x0"]:
            pass
        areas = []
        with open(f"{folder}/maps") as maps, open(f"{folder}/mem", "rb", buffering=0) as memory:
            for line in maps:
                start, end = (int(address, 16) for address in line.split()[0].split("-"))
                if line.split()[1].startswith("rw"):
                    memory.seek(start)
                    area = memory.read(end - start)
                    if len(area) != end - start:
                        sys.exit(f"only {len(area)} of {end - start} bytes at {start:#x} could be read")
                    areas.append((start, area))
        return self.at, int(call[-2], 16), areas, self.registers()


def find(memory, known):
    """Returns the known pieces in the memory: (start, length, names). Joins pieces that overlap."""
    at, runs, lengths = 0, [], {len(piece) for piece in known}
    while at < len(memory):
        if not memory[at] and not any(memory[at : at + 4096]):
            at += 4096
            continue
        for length in lengths:
            if name := known.get(memory[at : at + length]):
                start, before, names = runs[-1] if runs else (0, 0, [])
                if at < start + before:
                    runs[-1] = start, max(before, at + length - start), names if name in names else [*names, name]
                else:
                    runs.append((at, length, [name]))
        at += 1
    return runs


def main(elf, steps):
    secrets, left, overwritten, scanned = GROUP + DEVICE + SIGNATURES, 0, 0, 0
    known = pieces(secrets, LENGTH)
    with tempfile.TemporaryDirectory() as folder:
        is_arm = open(elf, "rb").read(20)[18] == 40
        machine = Board(elf, folder) if is_arm else Program(elf)
        in_registers = pieces(secrets, machine.register_size)
        try:
            for place, (step, wanted) in enumerate(steps, 1):
                at, sp, areas, registers = machine.halted()
                if at != place:
                    sys.exit(f"stopped at step {at} instead of {place}")
                print(f"{place}. {step}")
                missing, kept = set(wanted), set(MAY_BE_KEPT.get(place, ()))
                for base, memory in areas:
                    scanned += len(memory)
                    for start, length, names in find(memory, known):
                        address, what = base + start, " / ".join(names)
                        where = f"{sp - address} below the stack pointer" if address < sp else "above the stack pointer"
                        line = f"{length:>4} bytes at {address:#x}, {where}: {what}"
                        if address >= sp and what in missing | kept:
                            missing.discard(what)
                            kept.discard(what)
                            print(f"   on purpose: {line}")
                        else:
                            left += 1
                            print(f"   LEFT:       {line}")
                for register, value in registers:
                    for _, length, names in find(value, in_registers):
                        overwritten += register == VECTORS
                        left += register != VECTORS
                        verdict = "in passing:" if register == VECTORS else "LEFT:"
                        print(f"   {verdict:11} {length:>4} bytes in {register}: {' / '.join(names)}")
                if missing:
                    sys.exit(f"the search is blind to {missing}")
        finally:
            machine.process.kill()
            machine.process.wait()
    in_passing = f", and {overwritten} in passing in {VECTORS}" if overwritten else ""
    print(f"{scanned} bytes searched, {left or 'no'} remains of secrets{in_passing}")
    return int(left > 0)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4) or sys.argv[3:] not in ([], ["c"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], C_STEPS if sys.argv[3:] else STEPS))
