# For any WSGI server.
import os
import time

GENERATION = os.environ.get("SERVER_STARTER_GENERATION", "0")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.3)
    body = f"hello from generation {GENERATION}, process {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
