"""A mayflyd of one's own on a temporary socket, and a client that can also
misbehave."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 20


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = body

    def json(self):
        return json.loads(self.body)

    def fault(self):
        return self.json()["fault_message"]


def read_response(stream):
    """One response of a buffered binary stream."""
    line = stream.readline()
    if not line:
        raise EOFError("the connection was closed without an answer")
    status = int(line.split()[1])
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Response(status, headers, body)


def head(method, path, length=None, extra=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: mayfly", *extra]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Mayflyd:
    """with Mayflyd("build/daemon/mayflyd") as d: d.get("/v1/vms")"""

    def __init__(self, exe, *options, prefix=(), serves=None, directory=None,
                 **popen):
        """prefix: a command that becomes the daemon behind it. serves: the
        socket it is handed, in place of one of its own. directory: of a
        daemon that was killed."""
        self.dir = directory or tempfile.mkdtemp(prefix="mayfly-test-")
        # So that processes and descriptors can be counted.
        if "--vmm" in options and "--pool" not in options:
            options = ("--pool", "0", *options)
        own = os.path.join(self.dir, "s")
        self.socket = serves or own
        self.log = os.path.join(self.dir, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*prefix, exe, "--socket", own,
                 "--state-dir", os.path.join(self.dir, "state"), *options],
                stderr=log, **popen)
        deadline = time.monotonic() + TIMEOUT_S
        while not os.path.exists(self.socket) or (
                directory and not self.answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("mayflyd did not start: " + self.read_log())
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0]:
            sys.stderr.write(self.read_log())
        status = self.stop()
        shutil.rmtree(self.dir)
        if status != 0 and not exc[0]:
            raise RuntimeError(f"mayflyd ended with status {status}")

    def answers(self):
        try:
            return self.get("/v1/version").status == 200
        except OSError:
            return False

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            sys.stderr.write(self.read_log())
            raise

    def connect(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(TIMEOUT_S)
        s.connect(self.socket)
        return s

    def raw(self, data):
        """Sends bytes as they are, and reads one response."""
        with self.connect() as s, s.makefile("rb") as stream:
            try:
                s.sendall(data)
            except BrokenPipeError:
                pass  # it may be answered, and closed, before it is all sent
            return read_response(stream)

    def request(self, method, path, body=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.raw(
            head(method, path, None if body is None else len(body))
            + (body or b""))

    def get(self, path):
        return self.request("GET", path)

    def put(self, path, body):
        return self.request("PUT", path, body)

    def patch(self, path, body):
        return self.request("PATCH", path, body)

    def delete(self, path):
        return self.request("DELETE", path)

    def wait_for(self, what, condition):
        """Until condition() is true: what happens soon, but not at once."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.005)


def skip_unless_possible(kvm=True):
    """Meson shows exit status 77 as skipped."""
    if os.geteuid() != 0:
        print("needs root: jails are made by root")
        sys.exit(77)
    if kvm and not os.path.exists("/dev/kvm"):
        print("needs /dev/kvm")
        sys.exit(77)
