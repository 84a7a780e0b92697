"""A server of the standard library on an inherited socket: graceful on TERM, slow to start on request, and talkative
in the file "record" about what it lives through. Says READY=1 if somebody wants to hear it."""

import os
import signal
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GENERATION = os.environ["SERVER_STARTER_GENERATION"]


def record(what):
    with open(os.environ["TESTKIT_DIR"] + "/record", "a") as file:
        file.write("%s gen=%s pid=%d\n" % (what, GENERATION, os.getpid()))


def notify(message):
    name = os.environ.get("NOTIFY_SOCKET")
    if name:
        name = "\0" + name[1:] if name.startswith("@") else name
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, name)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"generation=%s pid=%d\n" % (GENERATION.encode(), os.getpid())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # Threads that the end waits for.
    daemon_threads = False


def stop(*_):
    # No more than this: the handler may have interrupted anything, the start of a thread among others.
    global stopping
    stopping = True
    record("signal TERM")


stopping = False
record("start")
time.sleep(float(os.environ.get("SLOW_START", "0")))
descriptor = int(os.environ["SERVER_STARTER_PORT"].split(";")[0].rpartition("=")[2])
server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=descriptor)
signal.signal(signal.SIGTERM, stop)
record("ready")
notify(b"READY=1")
server.timeout = 0.05
while not stopping:
    server.handle_request()
server.server_close()
record("exit 0")
