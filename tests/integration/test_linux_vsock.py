"""virtio-vsock under a real driver: both directions, many connections, halves
of them, and peers that do not read."""

import contextlib
import hashlib
import os
import selectors
import signal
import socket
import threading

import guests
import images
from harness import eventually, linux, scaled

CID = 42
BIG = 64 * images.MIB
ECHO = 1000
MANY = 1000


def guest(t):
    """One guest with an echo server, for all tests: /peer is vsock_peer.c,
    /dev/vdb has random bytes."""
    def config():
        d = t.file.dir
        images.random_file(os.path.join(d, "big"), BIG)
        with open(os.path.join(os.environ["MAYFLY_BUILD"], "tests", "guests",
                               "vsock_peer"), "rb") as f:
            program = f.read()
        with open(os.path.join(d, "peer"), "wb") as f:
            f.write(program.ljust(-(-len(program) // 512) * 512, b"\0"))
        return images.linux(images.bzimage(), mem_mib=256, drives=[
            images.drive(os.path.join(d, "peer"), "peer"),
            images.drive(os.path.join(d, "big"), "big", is_read_only=True),
        ], sections={"vsock": {"guest_cid": CID, "uds_path": uds(t)}})
    vm = guests.shared_linux(t, "vsock", config)
    vm.sh(f"[ -x /tmp/peer ] || {{ cat /dev/vda > /tmp/peer; "
          f"chmod +x /tmp/peer; (/tmp/peer echo {ECHO} > /tmp/log 2>&1 &); "
          "while ! grep -q listening /tmp/log; do usleep 10000; done; }",
          scaled(20))
    return vm


def uds(t):
    return os.path.join(t.file.dir, "v.sock")


def stats(vm):
    return vm.get()["counters"]["vsock"]


class UnixSocket(socket.socket):
    def __init__(self, timeout=30):
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.settimeout(scaled(timeout))
        self.port = None  # on the host, as the guest sees it


def connect(t, port=ECHO):
    """A connection to the guest's port; closes when the test is over."""
    s = UnixSocket()
    t.cleanup(s.close)
    s.connect(uds(t))
    s.sendall(f"CONNECT {port}\n".encode())
    line = s.recv(64)
    if not line:
        return None
    assert line.startswith(b"OK ") and line.endswith(b"\n"), line
    s.port = int(line[3:])
    assert s.port >= 1 << 30, line
    return s


class HostServer(threading.Thread):
    """Listens at <uds>_PORT, and gives serve() all connections it takes."""

    def __init__(self, t, port, serve):
        super().__init__(daemon=True)
        self.path = f"{uds(t)}_{port}"
        self.listener = UnixSocket()
        self.listener.bind(self.path)
        self.listener.listen(4096)
        self.serve = serve
        self.result = None
        t.cleanup(self.stop)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            self.result = self.serve(self.listener)

    def stop(self):
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def read_all(s, digest=None):
    """Until its end: how many bytes."""
    n = 0
    while data := s.recv(1 << 20):
        n += len(data)
        if digest:
            digest.update(data)
    return n


@linux()
def test_vsock_carries_64_mib_to_the_host(t):
    vm = guest(t)
    digest = hashlib.sha256()

    def serve(listener):
        s, _ = listener.accept()
        with s:
            s.settimeout(scaled(60))
            n = read_all(s, digest)
            s.sendall(f"{n} bytes\n".encode())
        return n
    HostServer(t, 5000, serve)
    out = vm.sh("/tmp/peer send 5000 < /dev/vdb", scaled(60))
    assert out == f"{BIG} bytes", out
    assert digest.hexdigest() == images.sha256(
        os.path.join(t.file.dir, "big"))


@linux()
def test_vsock_carries_64_mib_to_the_guest_and_back(t):
    guest(t)
    s = connect(t)
    digest, sent = hashlib.sha256(), hashlib.sha256()

    def write():
        with open(os.path.join(t.file.dir, "big"), "rb") as f:
            while data := f.read(1 << 20):
                sent.update(data)
                s.sendall(data)
        # Half of it is closed; the other half goes on.
        s.shutdown(socket.SHUT_WR)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert read_all(s, digest) == BIG
    writer.join()
    assert digest.digest() == sent.digest()


@linux()
def test_vsock_has_1000_connections_from_the_guest(t):
    vm = guest(t)
    before = stats(vm)
    peak = 0

    def serve(listener):
        nonlocal peak
        with selectors.DefaultSelector() as all_of_them:
            all_of_them.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in all_of_them.select():
                    if key.fileobj is listener:
                        s, _ = listener.accept()
                        all_of_them.register(s, selectors.EVENT_READ)
                        peak = max(peak, len(all_of_them.get_map()) - 1)
                        continue
                    data = key.fileobj.recv(4096)
                    if data:
                        key.fileobj.sendall(data)
                    else:
                        all_of_them.unregister(key.fileobj)
                        key.fileobj.close()
    HostServer(t, 5001, serve)
    out = vm.sh(f"/tmp/peer many 5001 {MANY}", scaled(60))
    assert out == f"{MANY} connections", out
    assert peak == MANY, peak
    after = stats(vm)
    assert after["opened"] - before["opened"] == MANY, (before, after)
    assert vm.state == "Running"
    eventually("all of them closed", lambda: stats(vm)["connections"] ==
               before["connections"], scaled(20))


@linux()
def test_vsock_has_1000_connections_to_the_guest(t):
    vm = guest(t)
    before = stats(vm)["connections"]
    peers = [connect(t) for _ in range(MANY)]
    assert len({s.port for s in peers}) == MANY
    for i, s in enumerate(peers):
        s.sendall(b"%08d" % i)
    for i, s in enumerate(peers):
        got = b""
        while len(got) < 8:
            got += s.recv(8 - len(got))
        assert got == b"%08d" % i, (i, got)
    assert stats(vm)["connections"] == before + MANY
    for s in peers:
        s.close()
    eventually("all of them closed", lambda: stats(vm)["connections"] ==
               before, scaled(20))


@linux()
def test_vsock_ports_without_listeners_refuse(t):
    vm = guest(t)
    before = stats(vm)
    assert connect(t, 4999) is None
    vm.sh("/tmp/peer refused 4999", scaled(20))
    # A socket file that nobody listens on.
    dead = UnixSocket()
    dead.bind(f"{uds(t)}_4998")
    dead.close()
    t.cleanup(os.unlink, f"{uds(t)}_4998")
    vm.sh("/tmp/peer refused 4998", scaled(20))
    after = stats(vm)
    assert after["refused"] - before["refused"] == 3, (before, after)
    assert after["opened"] == before["opened"], (before, after)


@linux()
def test_vsock_stalled_peer_stalls_alone(t):
    vm = guest(t)
    stalled = connect(t)
    stalled.setblocking(False)
    # Until nothing goes any more: the echo waits for us to read, and so does
    # everybody on the way.
    sent, idle = 0, 0
    while idle < 20:
        try:
            sent += stalled.send(bytes(65536))
            idle = 0
        except BlockingIOError:
            idle += 1
            vm.sh("usleep 10000")
    assert sent < 8 * images.MIB, "somebody buffers without bound"
    other = connect(t)
    for _ in range(16):
        other.sendall(bytes(65536))
        got = 0
        while got < 65536:
            got += len(other.recv(65536 - got))
    # And nothing of it is lost.
    stalled.settimeout(scaled(30))
    stalled.shutdown(socket.SHUT_WR)
    assert read_all(stalled) == sent


@linux()
def test_vsock_goes_on_without_the_daemon(t):
    """Clients are the VMM's own business."""
    guest(t)
    os.kill(t.daemon.pid, signal.SIGSTOP)
    try:
        s = connect(t)
        s.sendall(b"nobody else is there")
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == 20
    finally:
        os.kill(t.daemon.pid, signal.SIGCONT)


@linux()
def test_vsock_driver_unbound_leaves_no_connection(t):
    vm = guest(t)
    fds = f"/proc/{vm.pid}/fd"
    vm.sh("sync")
    eventually("quiet", lambda: stats(vm)["connections"] == 0, scaled(20))
    before = len(os.listdir(fds))
    peers = [connect(t) for _ in range(50)]
    assert len(os.listdir(fds)) == before + 50
    for s in peers:
        s.sendall(b"?")
    # The device is reset; the echo server hears of it, and goes on.
    vm.sh("cd /sys/bus/virtio/drivers/vmw_vsock_virtio_transport; "
          "d=$(ls -d virtio*); echo $d > unbind; echo $d > bind", scaled(20))
    for s in peers:
        with contextlib.suppress(ConnectionResetError):
            read_all(s)
    assert len(os.listdir(fds)) == before
    assert stats(vm)["connections"] == 0
    s = connect(t)
    s.sendall(b"again")
    s.shutdown(socket.SHUT_WR)
    assert read_all(s) == 5


@linux()
def test_vsock_goes_with_its_vm(t):
    path = t.path("own.sock")
    vm = guests.linux(t, images.linux(images.bzimage(), sections={
        "vsock": {"guest_cid": 3, "uds_path": path}}))
    with UnixSocket() as s:
        s.connect(path)
        s.sendall(b"CONNECT 1\n")
        assert s.recv(1) == b""
    with UnixSocket() as s:
        s.connect(path)
        vm.type("poweroff -f\n")
        vm.wait(scaled(20))
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
    assert not os.path.exists(path)
