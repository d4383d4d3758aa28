#!/usr/bin/env python3
"""Rooms include and use only what ARCHITECTURE.md allows them: checks every
#include against the table there ("may include"), and every library or kernel
interface that belongs to one room.

usage: check_layers.py SOURCE_ROOT | --self-test
"""

import os
import re
import sys
import tempfile

ROOMS = {"base", "virtio", "block", "net", "vmm", "jailer", "api", "daemon"}

# Headers of a room that the given ones may not see although the rule above
# says so: what is inside mayfly-vmm stays there.
DAEMON_SEES = {
    "vmm": {"config.h", "cpu_template.h", "kvm.h", "limits.h", "msg.h", "probe.h",
            "shared.h"},
    "virtio": set(),
    "block": {"blk_stats.h"},
    "net": {"tap.h"},
}

# What to look for -> where it may stand (directories or files).
BELONGS = {
    r"#\s*include\s*<seccomp\.h>": ["jailer/"],
    r"#\s*include\s*<json-c/": ["api/"],
    r"#\s*include\s*<systemd/": ["daemon/service.c"],
    r"#\s*include\s*<microhttpd\.h>": ["api/"],
    r"#\s*include\s*<liburing": ["virtio/"],
    r"#\s*include\s*<curl/": ["api/"],
    r"#\s*include\s*<linux/if_tun\.h>": [
        "net/", "jailer/seccomp_programs.c"],
    r"\bTUN(SET|GET|ATTACH|DETACH)\w*": [
        "net/", "jailer/seccomp_programs.c"],
    r"\bioctl\s*\([^;]*\bKVM_\w+": ["vmm/kvm.c"],
    # Paths are opened by the daemon, by the jail's maker, and by the commands
    # that their user runs.
    r"\b(open|openat|openat2|creat|fopen|opendir|file_\w+)\s*\(": [
        "base/file.", "daemon/", "jailer/", "net/tap.c", "vmm/probe.c",
        "api/cli/", "api/firecracker/"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def read_table(text):
    """Room -> what it may include, rooms and single headers, out of the rows
    "| `room/` | holds | alone uses | may include |"."""
    table = {}
    for line in text.splitlines():
        cells = [c.strip() for c in line.split("|")]
        room = cells[1].strip("`/") if len(cells) == 6 else None
        if room not in ROOMS or cells[1] != f"`{room}/`":
            continue
        words = {w.strip("`") for w in re.split(r"[,\s]+", cells[4])}
        table[room] = ROOMS if words == {"all"} else words - {"libc"}
        for word in table[room] - ROOMS:
            if word.split("/")[0] not in ROOMS:
                raise ValueError(f"ARCHITECTURE.md: {room}/ may include "
                                 f"{word}, which is no room and no header")
    if set(table) != ROOMS:
        raise ValueError("ARCHITECTURE.md: the table lacks "
                         f"{sorted(ROOMS - set(table))}")
    return table


def allowed(table, room, header):
    """Why a file of the room may not include the header, or None."""
    target, _, name = header.partition("/")
    if target not in ROOMS:
        return "is in no room: includes are written ROOM/HEADER"
    if target == room or header in table[room]:
        return None
    if target not in table[room]:
        return f"{room}/ may not include {target}/"
    if room == "daemon" and name not in DAEMON_SEES.get(target, {name}):
        return f"is for mayfly-vmm alone, not for {room}/"
    return None


def check_text(table, path, text):
    """Violations in one file, as sentences."""
    room = path.split("/")[0]
    text = COMMENT.sub("", text)
    found = []
    for header in INCLUDE.findall(text):
        why = allowed(table, room, header)
        if why:
            found.append(f'{path}: #include "{header}": {why}')
    code = STRING.sub('""', text)
    for pattern, places in BELONGS.items():
        m = re.search(pattern, code)
        if m and not any(path.startswith(p) for p in places):
            found.append(f"{path}: {m.group(0)!r} belongs to "
                         f"{', '.join(places)}")
    return found


def check_tree(table, root):
    """(number of files, violations)"""
    n, found = 0, []
    for room in sorted(ROOMS):
        for directory, _, names in os.walk(os.path.join(root, room)):
            for name in sorted(names):
                if not name.endswith((".c", ".h")):
                    continue
                full = os.path.join(directory, name)
                with open(full, encoding="utf-8") as f:
                    n += 1
                    found += check_text(table, os.path.relpath(full, root),
                                        f.read())
    return n, found


# (path, text, how many violations)
PLANTED = [
    ("base/x.c", '#include "virtio/virtq.h"\n', 1),
    ("virtio/x.c", '#include "base/fd.h"\n#include "block/blk.h"\n', 1),
    ("block/x.c", '#include "net/tap.h"\n', 1),
    ("vmm/x.c", '#include "daemon/vm.h"\n', 1),
    ("vmm/x.c", '#include "virtio/virtq.h"\n#include "block/blk.h"\n', 0),
    ("jailer/x.c", '  #  include "vmm/msg.h"\n', 1),
    ("api/x.c", '#include "vmm/msg.h"\n', 1),
    ("api/x.c", '#include "vmm/config.h"\n#include "api/json.h"\n', 0),
    ("api/x.c", '#include "daemon/vm.h"\n', 1),
    ("daemon/x.c", '#include "vmm/msg.h"\n#include "jailer/jail.h"\n', 0),
    ("daemon/x.c", '#include "vmm/vm.h"\n', 1),
    ("daemon/x.c", '#include "virtio/virtq.h"\n', 1),
    ("daemon/x.c", '#include "loop.h"\n', 1),
    ("daemon/x.c", "#include <json-c/json.h>\n", 1),
    ("daemon/x.c", "#include <microhttpd.h>\n", 1),
    ("daemon/x.c", "#include <systemd/sd-daemon.h>\n", 1),
    ("daemon/service.c", "#include <systemd/sd-daemon.h>\n", 0),
    ("vmm/x.c", "#include <seccomp.h>\n", 1),
    ("vmm/x.c", "#include <liburing.h>\n", 1),
    ("virtio/x.c", "#include <liburing.h>\n", 0),
    ("vmm/x.c", "r = ioctl(fd,\n\tKVM_RUN, 0);\n", 1),
    ("vmm/kvm.c", "r = ioctl(fd, KVM_RUN, 0);\n", 0),
    ("vmm/x.c", "/* ioctl(fd, KVM_RUN) */ int x;\n", 0),
    ("vmm/x.c", 'log("ioctl(fd, KVM_RUN)");\n', 0),
    ("vmm/x.c", 'fd = open("/etc/passwd", O_RDONLY);\n', 1),
    ("block/x.c", "ioctl(fd, TUNSETIFF, &r);\n", 1),
]


TABLE = """
| room | holds | alone uses | may include |
| `base/` | | | libc |
| `virtio/` | | | base |
| `block/` | | | virtio, base |
| `net/` | | | virtio, base |
| `vmm/` | | | block, net, virtio, base |
| `jailer/` | | | base |
| `api/` | | | base, `vmm/config.h` |
| `daemon/` | | | all |
"""


def self_test():
    failed = 0
    table = read_table(TABLE)
    for path, text, want in PLANTED:
        got = check_text(table, path, text)
        if len(got) != want:
            print(f"self-test: {path} {text!r}: {want} expected, found {got}")
            failed += 1
    # The walk finds a file, too.
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, "base"))
        with open(os.path.join(root, "base", "x.h"), "w",
                  encoding="utf-8") as f:
            f.write(PLANTED[0][1])
        if check_tree(table, root) != (
                1, check_text(table, "base/x.h", PLANTED[0][1])):
            print("self-test: a planted file was not found")
            failed += 1
    for bad in (TABLE.replace("`net/`", "net"),
                TABLE.replace("| base |", "| basement |")):
        try:
            read_table(bad)
        except ValueError:
            continue
        print("self-test: a table that is wrong was taken")
        failed += 1
    return failed


def main():
    failed = self_test()
    if sys.argv[1] == "--self-test":
        print(f"{len(PLANTED)} planted, {failed} wrong")
        return failed > 0
    root = sys.argv[1]
    with open(os.path.join(root, "ARCHITECTURE.md"), encoding="utf-8") as f:
        table = read_table(f.read())
    n, found = check_tree(table, root)
    for line in found:
        print(line)
    print(f"{n} files, {len(found)} violations")
    # A tree without files is no clean tree.
    return failed > 0 or found or n < 50


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
