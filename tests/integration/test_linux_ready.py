"""How a guest says that it is ready: as mayfly-guest(7) has it, word by word."""

import os
import re
import subprocess

import guests
import images
from harness import linux, scaled

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "..", "..", "daemon", "mayfly-guest.7")


def examples():
    """The C program and the shell's line of the page."""
    with open(PAGE, encoding="ascii") as f:
        found = re.findall(r"^\.EX\n(.*?)^\.EE$", f.read(),
                           re.MULTILINE | re.DOTALL)
    program, line = (text.replace("\\-", "-") for text in found)
    assert len(program.splitlines()) <= 10 and len(line.splitlines()) == 1
    return program, line.strip()


def silent_guest(t):
    """A guest whose init does not say so; /dev/vdb is the program."""
    source = t.path("ready.c")
    with open(source, "w", encoding="ascii") as f:
        f.write(examples()[0])
    program = t.path("ready")
    subprocess.run(["cc", "-static", "-Wall", "-Wextra", "-Werror", "-o",
                    program, source], check=True)
    with open(program, "r+b") as f:
        f.truncate(-(-os.path.getsize(program) // 512) * 512)
    vm = guests.linux(t, images.linux_with_tools(
        args="ready=later", drives=[images.drive(program, "program",
                                                 is_read_only=True)],
        sections={"vsock": {"guest_cid": 3, "uds_path": t.path("v")}}))
    assert "guest_ready" not in vm.get()["timeline"]
    return vm


def expect_ready(t, vm):
    conn, answer = t.api.stream(f"/v1/events?vm={vm.id}&after=0",
                                timeout=scaled(20))
    for line in answer:
        if line == b"event: guest_ready\n":
            break
    conn.close()
    assert vm.get()["timeline"]["guest_ready"] > 0


@linux()
def test_ready_by_the_pages_c_program(t):
    vm = silent_guest(t)
    vm.sh("cat /dev/vdb > /tmp/ready; chmod +x /tmp/ready; /tmp/ready",
          scaled(20))
    expect_ready(t, vm)


@linux()
def test_ready_by_the_pages_shell_line(t):
    vm = silent_guest(t)
    vm.sh(examples()[1], scaled(20))
    expect_ready(t, vm)
    # It may be said again, by other ways too, and nobody has to listen.
    vm.sh(examples()[1], scaled(20))
