# A server for the tests of workers that have turned: it answers every client with the number of its generation. When it
# is told to stop, it does the next of the deeds in the file "deed" to the listeners first, as a process without rights.
import ctypes, os, select, signal, socket, struct, sys

listeners = []
for entry in os.environ["SERVER_STARTER_PORT"].split(";"):
    listeners.append(socket.socket(fileno=int(entry.rsplit("=", 1)[1])))
number = os.environ["SERVER_STARTER_GENERATION"].encode()
INT = struct.Struct("i").pack
DROP = struct.pack("HBBI", 6, 0, 0, 0)
PROGRAM = ctypes.create_string_buffer(DROP)
FILTER = struct.pack("HxxxxxxP", 1, ctypes.addressof(PROGRAM))
libc = ctypes.CDLL(None, use_errno=True)


def key(listener):
    family = struct.pack("H", listener.family).ljust(128, b"\0")
    return family + struct.pack("BBHi80s", 1, 0, 3, 0, b"key")


def another_device():
    return next(name for _, name in socket.if_nameindex() if name != "lo").encode() + b"\0"


def no_address(listener):
    if libc.connect(listener.fileno(), b"\0" * 16, 16) != 0:
        raise OSError(ctypes.get_errno(), "connect")


def become_a_connection(listener):
    no_address(listener)
    host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    listener.connect(socket.create_server((host, 0), family=listener.family).getsockname())


def connect(listener):
    if listener.family == socket.AF_UNIX:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        peer.bind("peer" + number.decode())
        listener.connect("peer" + number.decode())
    else:
        listener.connect(("127.0.0.1" if listener.family == socket.AF_INET else "::1", 9))


def option(level, name, value):
    return lambda listener: listener.setsockopt(level, name, value)


DEEDS = {
    "device": lambda listener: listener.setsockopt(1, 25, another_device()),
    "filter": option(1, 26, FILTER),
    "locked-filter": lambda listener: (listener.setsockopt(1, 26, FILTER), listener.setsockopt(1, 44, INT(1))),
    "lock": option(1, 44, INT(1)),
    "low-water": option(1, 18, INT(1 << 29)),
    "pacing": option(1, 47, INT(1)),
    "dont-route": option(1, 5, INT(1)),
    "linger": option(1, 13, struct.pack("ii", 1, 0)),
    "receive-timeout": option(1, 20, struct.pack("ll", 0, 1)),
    "user-timeout": option(6, 18, INT(1)),
    "signature": lambda listener: listener.setsockopt(6, 32, key(listener)),
    "ttl": option(0, 2, INT(1)),
    "min-ttl": option(0, 21, INT(255)),
    "hops": option(41, 16, INT(1)),
    "min-hops": option(41, 73, INT(255)),
    "routing-header": option(41, 57, struct.pack("8B", 0, 4, 4, 1, 1, 0, 0, 0) + b"\xfd" * 32),
    "out-device": option(0, 50, struct.pack("!i", 2)),
    "out-device-6": option(41, 76, struct.pack("!i", 2)),
    "cork": option(17, 1, INT(1)),
    "encapsulation": option(17, 100, INT(2)),
    "segments": option(17, 103, INT(10)),
    "no-sum": option(17, 101, INT(1)),
    "buffer": option(1, 8, INT(1)),
    "reuse": option(1, 2, INT(1)),
    "no-rights": option(1, 83, INT(0)),
    "no-address": no_address,
    "connection": become_a_connection,
    "connect": connect,
}


def turn(*_):
    with open("deed") as file:
        deed = file.read().strip()
    for listener in listeners:
        try:
            if deed:
                DEEDS[deed](listener)
        except OSError as error:
            print("the deed", deed, "is not possible:", error, file=sys.stderr, flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, turn)
print("generation", number.decode(), "serves", file=sys.stderr, flush=True)
while True:
    ready, _, _ = select.select(listeners, [], [])
    for listener in ready:
        try:
            if listener.type == socket.SOCK_STREAM:
                listener.setblocking(False)
                client, _ = listener.accept()
                client.settimeout(5)
                select.select([client], [], [], 5)
                client.recv(100)
                client.sendall(number.rjust(100000, b"."))
                client.close()
            else:
                _, peer = listener.recvfrom(65536, socket.MSG_DONTWAIT)
                if peer:
                    listener.sendto(number.rjust(100, b"."), peer)
        except OSError:
            pass
