"""Running guests for tests: the puppet, and Linux."""

import os

import images
from harness import scaled
from mayfly import Vm

GREETING = "Hello from a Mayfly guest: .*\n"


def puppet(t, daemon=None, **config):
    """A running puppet which has said so; config as images.puppet() takes."""
    vm = t.vm(images.puppet(**config), start=True, daemon=daemon)
    vm.expect("puppet ready")
    return vm


def puppet_with_disk(t, **config):
    """The same with a drive, so that threads of all kinds are there."""
    disk = images.blank(t.path(f"disk{len(t.vms)}"), images.MIB)
    return puppet(t, drives=[images.drive(disk)], **config)


def shared_puppet(t):
    """One with two CPUs and a drive named "shared", for tests that only look
    at it, or want a VM of which nothing may be noticed."""
    def make(daemon):
        disk = images.blank(os.path.join(t.file.dir, "shared"), images.MIB)
        vm = Vm(daemon, images.puppet(vcpus=2, drives=[images.drive(disk)]),
                start=True)
        vm.expect("puppet ready")
        return vm
    return t.shared("puppet", make)


def linux(t, config):
    """A Linux guest whose shell is there."""
    vm = t.vm(config, start=True)
    vm.expect(GREETING, scaled(20))
    return vm


def shared_linux(t, key, make_config):
    """One for all tests of the file; make_config() is called once."""
    def make(daemon):
        vm = Vm(daemon, make_config(), start=True)
        vm.expect(GREETING, scaled(20))
        return vm
    return t.shared(key, make)
