"""Drives mayflyd over its socket: the API, one daemon, one VM, its console.

Everything that waits takes a timeout and says what it waited for. Nothing
here sleeps for a fixed time where the API offers an event.
"""

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import proc


class Reply:
    """One HTTP answer."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body) if self.body else None

    @property
    def fault(self):
        """The fault_message of an error answer, or ""."""
        try:
            return self.json.get("fault_message", "")
        except (ValueError, AttributeError):
            return ""

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Refused(AssertionError):
    """The daemon answered with an error where success was expected."""

    def __init__(self, what, reply):
        super().__init__(f"{what}: {reply}")
        self.reply = reply


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    def __init__(self, path, timeout=30):
        self.path = path
        self.timeout = timeout

    def request(self, method, path, body=None, timeout=None, headers=None):
        """One request on a connection of its own. body: bytes as they are,
        str as UTF-8, anything else as JSON."""
        conn = UnixConnection(self.path, timeout or self.timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        try:
            conn.request(method, path, body=body, headers=headers)
            answer = conn.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            conn.close()

    def ok(self, method, path, body=None, **kwargs):
        """A request that has to succeed; its JSON, or None."""
        reply = self.request(method, path, body, **kwargs)
        if reply.status not in (200, 201, 204):
            raise Refused(f"{method} {path}", reply)
        return reply.json if reply.body[:1] in (b"{", b"[") else None

    def refused(self, method, path, body=None, names="", status=None, **kwargs):
        """A request that has to be answered by a 4xx with a fault_message
        holding `names` (a string or a tuple: any of them)."""
        reply = self.request(method, path, body, **kwargs)
        what = f"{method} {path}"
        assert 400 <= reply.status < 500, f"{what}: wanted a 4xx, got {reply}"
        if status is not None:
            wanted = status if isinstance(status, tuple) else (status,)
            assert reply.status in wanted, f"{what}: wanted {status}: {reply}"
        assert reply.fault, f"{what}: no fault_message in {reply}"
        words = (names,) if isinstance(names, str) else names
        assert any(w in reply.fault for w in words), (
            f"{what}: the fault does not name {names!r}: {reply.fault!r}")
        return reply

    def stream(self, path, timeout=None):
        """An open GET whose body is read piecemeal: (connection, answer)."""
        conn = UnixConnection(self.path, timeout or self.timeout)
        conn.request("GET", path)
        return conn, conn.getresponse()

    def raw(self):
        """A connected socket, for requests no HTTP library would send."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(self.timeout)
        s.connect(self.path)
        return s


class Daemon:
    """A mayflyd of our own, on a socket in a directory of our own."""

    def __init__(self, program, directory, extra_args=(), prefix=(), **popen):
        """prefix: a command that becomes the program behind it."""
        os.makedirs(directory, exist_ok=True)
        self.dir = directory
        self.socket = os.path.join(directory, "api.sock")
        self.state_dir = os.path.join(directory, "state")
        self.log_path = os.path.join(directory, "daemon.log")
        self.api = Api(self.socket)
        args = [*prefix, program, "--socket", self.socket,
                "--state-dir", self.state_dir, *extra_args]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                **popen)
        try:
            self._wait_ready(20)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self):
        return self.process.pid

    def _wait_ready(self, timeout):
        # The socket file may be there before anybody listens: only an answer
        # counts. There is no event to wait for, so this polls.
        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"mayflyd ended with {self.process.returncode}:\n"
                    + self.log_tail())
            try:
                if self.api.request("GET", "/v1/version").status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError("mayflyd does not answer:\n"
                                     + self.log_tail())
            time.sleep(0.01)

    def alive(self):
        return self.process.poll() is None

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_text(self, since=0):
        with open(self.log_path, "rb") as f:
            f.seek(since)
            return f.read().decode(errors="replace")

    def log_tail(self, lines=40, since=0):
        return "\n".join(self.log_text(since).splitlines()[-lines:])

    def stop(self, timeout=20):
        """SIGINT: with all its VMs. The exit status."""
        if self.alive():
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)

    def close(self):
        """Ends the daemon, by force if it has to be."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """Ends the daemon and what it started, however it is."""
        if not self.alive():
            return
        vmms = proc.children(self.pid)
        self.process.kill()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass  # it hangs in the kernel: the VMMs go all the same
        for pid in vmms:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Console:
    """Follows a VM's console in a thread and lets the test wait for text."""

    def __init__(self, vm):
        self.vm = vm
        self.data = b""
        self.ended = False
        self.error = None
        self.mark = 0  # expect() looks from here on
        self._changed = threading.Condition()
        self._conn, self._answer = vm.daemon.api.stream(
            vm.url("console?follow=true"), timeout=600)
        assert self._answer.status == 200, f"console: {self._answer.status}"
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self):
        try:
            while True:
                piece = self._answer.read1(65536)
                if not piece:
                    break
                with self._changed:
                    self.data += piece
                    self._changed.notify_all()
        except (OSError, http.client.HTTPException, ValueError,
                AttributeError) as e:
            self.error = e  # the last two: closed under our hands
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def close(self):
        sock = self._conn.sock
        if sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(5)
        self._conn.close()

    def text(self):
        return self.data.decode(errors="replace")

    def tail(self, lines=25):
        return "\n".join(self.text().splitlines()[-lines:])

    def expect(self, pattern, timeout=30):
        """Waits until the regular expression matches what was printed after
        the last match; returns the match and moves on behind it."""
        if isinstance(pattern, str):
            pattern = pattern.encode()
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                m = regex.search(self.data, self.mark)
                if m:
                    self.mark = m.end()
                    return m
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    why = "the console ended" if self.ended else (
                        f"not within {timeout} s")
                    raise AssertionError(
                        f"console: no {pattern.decode()!r}: {why}")
                self._changed.wait(left)

    def wait_end(self, timeout=30):
        """Waits until the stream ends, as it does when the VM has exited."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended, timeout):
                raise AssertionError(
                    f"the console's stream did not end within {timeout} s")


class Vm:
    _numbers = itertools.count(1)

    def __init__(self, daemon, config=None, vm_id=None, start=False):
        self.daemon = daemon
        self.id = vm_id or f"vm-{os.getpid()}-{next(self._numbers)}"
        self.console = None
        self._commands = itertools.count(1)
        body = dict(config or {})
        if start:
            body["start"] = True
        daemon.api.ok("PUT", self.url(), body)

    def url(self, rest=""):
        return f"/v1/vms/{self.id}" + (f"/{rest}" if rest else "")

    # What the API says.

    def get(self):
        return self.daemon.api.ok("GET", self.url())

    @property
    def state(self):
        return self.get()["state"]

    @property
    def pid(self):
        return self.get()["pid"]

    @property
    def exit(self):
        """{"reason": ..., and "status" or "signal"} of an exited VM."""
        return self.get()["exit"]

    def metric(self, name, **labels):
        """One of its samples in GET /metrics; None: there is none such."""
        text = self.daemon.api.request("GET", "/metrics").body.decode()
        labels = "".join(f',{k}="{v}"' for k, v in labels.items())
        start = f'\nmayfly_vm_{name}{{vm="{self.id}"{labels}}} '
        _, found, rest = text.partition(start)
        return float(rest.partition("\n")[0]) if found else None

    def config(self):
        """The sections of its configuration, as it has them now."""
        info = self.get()
        return {key: info.get(key) for key in (
            "boot-source", "machine-config", "drives", "labels")}

    def put(self, rest, body):
        return self.daemon.api.ok("PUT", self.url(rest), body)

    def start(self):
        self.put("actions", {"action_type": "InstanceStart"})
        return self

    def pause(self):
        self.daemon.api.ok("PATCH", self.url("vm"), {"state": "Paused"})

    def resume(self):
        self.daemon.api.ok("PATCH", self.url("vm"), {"state": "Resumed"})

    def ctrl_alt_del(self):
        self.put("actions", {"action_type": "SendCtrlAltDel"})

    def wait(self, timeout=30):
        """Waits for the end; returns the exit object, {"reason": ...}."""
        reply = self.daemon.api.request(
            "GET", self.url(f"wait?timeout_ms={int(timeout * 1000)}"),
            timeout=timeout + 10)
        if reply.status != 200 or reply.json["timed_out"]:
            raise Refused(f"{self.id} has not exited in {timeout} s", reply)
        return reply.json["exit"]

    def delete(self):
        self.daemon.api.ok("DELETE", self.url())

    # The console.

    def follow(self):
        if not self.console:
            self.console = Console(self)
        return self.console

    def expect(self, pattern, timeout=30):
        return self.follow().expect(pattern, timeout)

    def type(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.daemon.api.ok("PUT", self.url("console"), data,
                           headers={"Content-Type": "application/octet-stream"})

    def output(self):
        reply = self.daemon.api.request("GET", self.url("console"))
        assert reply.status == 200, f"console: {reply}"
        return reply.body

    def run(self, command, timeout=30):
        """Runs a command in the guest's shell: (status, output)."""
        tag = f"done{next(self._commands)}"
        self.follow()
        self.console.mark = len(self.console.data)
        start = self.console.mark
        # Quotes keep an echoed command line from looking like its result.
        self.type(f"{command}\necho {tag[:2]}''{tag[2:]}=$?\n")
        m = self.console.expect(rf"{tag}=(\d+)\r?\n", timeout)
        out = self.console.data[start:m.start()].decode(errors="replace")
        return int(m.group(1)), out.replace("\r\n", "\n")

    def sh(self, command, timeout=30):
        """Runs a command that has to succeed; its output, stripped."""
        status, out = self.run(command, timeout)
        assert status == 0, f"guest: {command!r} gave {status}: {out!r}"
        return out.strip()
