# Answers each datagram with itself.
import os
import select
import signal
import socket

fd = int(os.environ["SERVER_STARTER_PORT"].split(";")[0].rpartition("=")[2])
generation = os.environ["SERVER_STARTER_GENERATION"]
listener = socket.socket(fileno=fd)
stop = False


def told(number, frame):
    global stop
    stop = True


# A signal that comes at any moment is found in the pipe.
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGTERM, told)

while not stop:
    ready, _, _ = select.select([listener, reader], [], [])
    if listener not in ready or stop:
        continue
    try:
        datagram, client = listener.recvfrom(2048, socket.MSG_DONTWAIT)
    except BlockingIOError:
        continue  # another generation was faster
    listener.sendto(datagram + f" hello from generation {generation}, process {os.getpid()}\n".encode(), client)
