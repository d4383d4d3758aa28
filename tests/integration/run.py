#!/usr/bin/python3
"""Runs the integration tests: real guests on this machine's KVM.

  run.py [--kind native|linux|package|all] [--list] [NAME...]

A NAME picks the tests whose name holds it. One line per test, and a last line
with the counts; the status is 1 when a test failed. MAYFLY_BUILD names the
build directory ("build" in the source tree if unset).
"""

import argparse
import faulthandler
import glob
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True  # the tree may be read-only

import harness  # noqa: E402  (needs the path above)
import proc  # noqa: E402

CLEANUP_LIMIT = 30


def collect():
    """[(module, name, function)], in the files' and their lines' order."""
    tests = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        module = importlib.import_module(os.path.basename(path)[:-3])
        found = [(f.__code__.co_firstlineno, name, f)
                 for name, f in vars(module).items()
                 if name.startswith("test_") and callable(f)]
        tests += [(module.__name__, name[len("test_"):], f)
                  for _, name, f in sorted(found)]
    return tests


def reason_of(e):
    """One line for an exception, with the place in the test it came from."""
    where = ""
    for frame in traceback.extract_tb(e.__traceback__):
        if os.path.basename(frame.filename).startswith("test_"):
            where = f" ({os.path.basename(frame.filename)}:{frame.lineno}" \
                    f": {frame.line})"
    text = " ".join(str(e).split()) or type(e).__name__
    if not isinstance(e, AssertionError):
        text = f"{type(e).__name__}: {text}"
    return text[:600] + where


class Alarm:
    """Raises TimeLimit in the main thread when the time is up."""

    def __init__(self, seconds, what):
        self.seconds = seconds
        self.what = what

    def _ring(self, _signum, _frame):
        raise harness.TimeLimit(f"{self.what} took over {self.seconds:g} s")

    def __enter__(self):
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)


def print_counts(counts):
    print("{passed} passed, {failed} failed, {skipped} skipped".format(
        **counts), flush=True)


class Watchdog(threading.Thread):
    """Ends the run when a test cannot even be interrupted: the main thread
    hangs in a system call, so nobody else would notice."""

    def __init__(self, counts):
        super().__init__(daemon=True)
        self._counts = counts
        self._changed = threading.Condition()
        self._deadline = None
        self._what = self._file = None

    def watch(self, what, file, seconds):
        with self._changed:
            self._what, self._file = what, file
            self._deadline = time.monotonic() + seconds
            self._changed.notify()

    def run(self):
        with self._changed:
            while True:
                left = None if self._deadline is None else (
                    self._deadline - time.monotonic())
                if left is not None and left <= 0:
                    self._bark()
                self._changed.wait(left)

    def _bark(self):
        print(f"not ok {self._what}: it hangs and cannot be interrupted",
              flush=True)
        faulthandler.dump_traceback(sys.stdout)
        for daemon in self._file.daemons:
            if daemon.alive():
                for pid in [daemon.pid, *proc.children(daemon.pid)]:
                    print(f"--- process {pid} in the kernel", flush=True)
                    print(proc.kernel_stacks(pid), flush=True)
                daemon.kill()
        self._counts["failed"] += 1
        print_counts(self._counts)
        os._exit(1)


def run_one(file, f):
    """Returns (None or the exception, details to print when it failed)."""
    t = None
    problem = details = None
    try:
        with Alarm(harness.scaled(f.limit), "the test"):
            t = harness.Context(file)
            f(t)
    except (Exception, harness.TimeLimit) as e:
        problem = e
    if t and problem and not isinstance(problem, harness.Skip):
        try:
            with Alarm(CLEANUP_LIMIT, "reading the logs"):
                details = t.tails()
        except (Exception, harness.TimeLimit) as e:
            details = f"(no details: {e})"
        for vm in t.vms:  # the next test gets a fresh one
            file.drop_shared(vm)
    try:
        with Alarm(CLEANUP_LIMIT, "cleaning up"):
            if t:
                t.close()
    except (Exception, harness.TimeLimit) as e:
        problem = problem or e
        if file.running_daemon:
            file.running_daemon.kill()
    return problem, details


def run_file(build, tests, counts, watchdog):
    file = harness.File(build)
    try:
        for name, f in tests:
            start = time.monotonic()
            watchdog.watch(name, file,
                           harness.scaled(f.limit) + 3 * CLEANUP_LIMIT)
            problem, details = run_one(file, f)
            took = time.monotonic() - start
            if problem is None:
                counts["passed"] += 1
                print(f"ok {name} ({took:.1f} s)", flush=True)
            elif isinstance(problem, harness.Skip):
                counts["skipped"] += 1
                print(f"skip {name}: {problem}", flush=True)
            else:
                counts["failed"] += 1
                print(f"not ok {name}: {reason_of(problem)}", flush=True)
                if details:
                    print("    " + details.replace("\n", "\n    "),
                          flush=True)
    finally:
        watchdog.watch("stopping the daemon", file, 2 * CLEANUP_LIMIT)
        with Alarm(CLEANUP_LIMIT, "stopping the daemon"):
            file.close()


def linux_problem(build):
    """Why no Linux guest can run on this machine's KVM, or ""."""
    probe = subprocess.run([harness.program(build), "--probe"],
                           stdin=subprocess.DEVNULL, capture_output=True,
                           encoding="utf-8", check=False)
    if probe.returncode == 0:
        return ""
    return f"{probe.stderr.strip()} (tools/testbed runs these)"


def main():
    parser = argparse.ArgumentParser(
        description="Integration tests with real guests.")
    parser.add_argument("--kind", choices=("native", "linux", "package", "all"),
                        default="all")
    parser.add_argument("--list", action="store_true",
                        help="print the names and stop")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="only tests whose name holds one of these")
    args = parser.parse_args()

    tests = [x for x in collect()
             if args.kind in ("all", x[2].kind)
             and (not args.names or any(n in x[1] for n in args.names))]
    if args.list:
        for _, name, f in tests:
            print(f"{f.kind:7} {name}")
        return 0
    if not tests:
        print("no test of that name", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("these tests need root: mayflyd makes jails", file=sys.stderr)
        return 2
    build = os.path.abspath(os.environ.get(
        "MAYFLY_BUILD", os.path.join(HERE, "..", "..", "build")))
    if not os.access(harness.program(build), os.X_OK):
        print(f"{harness.program(build)} is missing: build first, or set "
              "MAYFLY_BUILD", file=sys.stderr)
        return 2
    os.environ["MAYFLY_BUILD"] = build
    faulthandler.register(signal.SIGUSR1)  # shows where a run hangs

    no_linux = linux_problem(build) if any(
        f.kind == "linux" for _, _, f in tests) else ""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    files = {}
    for module, name, f in tests:
        if f.kind == "linux" and no_linux:
            counts["skipped"] += 1
            print(f"skip {name}: {no_linux}", flush=True)
        else:
            files.setdefault(module, []).append((name, f))
    watchdog = Watchdog(counts)
    watchdog.start()
    for module_tests in files.values():
        run_file(build, module_tests, counts, watchdog)
    print_counts(counts)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
