"""Daemons that die, and those that come after them."""

import mayfly
from harness import program


def kill(daemon):
    daemon.process.kill()
    daemon.process.wait()


def heir_of(t, daemon, *extra_args):
    """The next daemon on the same socket and state directory."""
    heir = mayfly.Daemon(program(t.build), daemon.dir, extra_args)
    t.cleanup(heir.close)
    for vm in t.vms:
        if vm.daemon is daemon:
            vm.daemon = heir
            if vm.console:
                vm.console.close()
                vm.console = None
    return heir
