#!/usr/bin/env python3
"""Deletes each guard of the code a guest talks to, in turn, and demands that a
unit test fails for it.

Each condition of an if, while, return or ?: in the files below gives mutants:

  gone   the condition, or one operand of its && or ||, does not count
  edge   a comparison is off by one (< for <=, >= for >, ...)
  mask   an index is not reduced to the ring

All mutants of a file are compiled at once; the variable MUTANT says which of
them is alive in a run. Prints mutant and the test that killed it; exits with 1
when one survives.

usage: tests/mutate.py [FILE...]
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASE = ["base/error.c", "base/fd.c"]

MMDS_TCP = ["net/siphash.c", "virtio/iovs.c"]
MMDS_SERVE = ["net/mmds_http.c", "net/mmds_image.c", "net/mmds_token.c",
              "net/siphash.c"]
MMDS = ["net/mmds_serve.c", "net/mmds_tcp.c", "net/mmds_tcp_in.c",
        "virtio/iovs.c", *MMDS_SERVE]
# The daemon's side makes the images.
MMDS_IMAGE = ["api/mmds_data.c", "api/json.c", "api/json_check.c",
              "base/text.c", "-ljson-c"]
# A device, and all that it needs to run.
RIG = ["tests/unit/rig.c", "tests/unit/driver.c", "virtio/vq_service.c",
       "virtio/virtq.c", "virtio/mmio.c", "virtio/gmem.c", "virtio/iovs.c",
       "virtio/worker.c", "virtio/worker_loop.c", "virtio/worker_files.c",
       "virtio/uring.c"]

# What is mutated: the test that has to notice, and what it is linked with.
TARGETS = {
    "virtio/gmem.c": ("test_gmem", []),
    "virtio/iovs.c": ("test_iovs", []),
    "virtio/virtq.c": ("test_virtq", ["tests/unit/driver.c", "virtio/mmio.c",
                                      "virtio/gmem.c", "virtio/iovs.c"]),
    "virtio/balloon.c": ("test_balloon", RIG + [
        "virtio/balloon_hint.c", "virtio/balloon_pages.c",
        "virtio/balloon_stats.c"]),
    "virtio/balloon_hint.c": ("test_balloon_hint", []),
    "virtio/balloon_pages.c": ("test_balloon_pages", ["virtio/gmem.c"]),
    "virtio/balloon_stats.c": ("test_balloon_stats", ["virtio/iovs.c"]),
    "virtio/rng.c": ("test_rng", RIG + ["virtio/rate_limiter.c"]),
    "virtio/vconsole.c": ("test_vconsole", RIG + ["virtio/rate_limiter.c"]),
    "virtio/vq_service.c": ("test_vq_service", [
        f for f in RIG if f != "virtio/vq_service.c"]),
    "virtio/mmio.c": ("test_mmio", ["tests/unit/driver.c", "virtio/virtq.c",
                                    "virtio/gmem.c", "virtio/iovs.c"]),
    "virtio/memdev.c": ("test_memdev", [
        "tests/unit/driver.c", "tests/unit/busy_driver.c", "virtio/virtq.c",
        "virtio/gmem.c", "virtio/iovs.c", "virtio/mmio.c", "virtio/memdev_req.c",
        "virtio/worker.c", "virtio/worker_files.c", "virtio/worker_loop.c",
        "virtio/uring.c"]),
    "virtio/memdev_req.c": ("test_memdev_req", ["virtio/gmem.c"]),
    "virtio/pmem.c": ("test_pmem", [
        "tests/unit/driver.c", "tests/unit/busy_driver.c", "virtio/virtq.c",
        "virtio/gmem.c", "virtio/iovs.c", "virtio/mmio.c", "virtio/rate_limiter.c",
        "virtio/worker.c", "virtio/worker_files.c", "virtio/worker_loop.c",
        "virtio/uring.c"]),
    "virtio/rate_limiter.c": ("test_rate_limiter", []),
    "virtio/worker_loop.c": ("test_worker", [
        "virtio/worker.c", "virtio/worker_files.c", "virtio/uring.c"]),
    "virtio/worker_files.c": ("test_worker", [
        "virtio/worker.c", "virtio/worker_loop.c", "virtio/uring.c"]),
    "block/raw.c": ("test_raw", [
        "virtio/worker.c", "virtio/worker_files.c", "virtio/worker_loop.c",
        "virtio/uring.c", "virtio/iovs.c"]),
    "api/fields.c": ("test_fields", [
        "api/rate_limiter.c", "api/errors.c", "api/json.c",
        "api/json_check.c", "base/text.c"]),
    "api/rate_limiter.c": ("test_fields", [
        "api/fields.c", "api/errors.c", "api/json.c", "api/json_check.c",
        "base/text.c"]),
    "base/histogram.c": ("test_histogram", []),
    "daemon/memory_sample.c": ("test_memory_sample", []),
    "daemon/throttle.c": ("test_throttle", [
        "daemon/output.c", "daemon/ring.c", "daemon/loop.c",
        "daemon/events.c", "daemon/registry.c"]),
    "daemon/state.c": ("test_state", ["base/log.c"]),
    "virtio/vsock_buf.c": ("test_vsock_buf", ["virtio/iovs.c"]),
    "virtio/vsock_pkt.c": ("test_vsock_pkt", ["virtio/iovs.c"]),
    "block/blk_req.c": ("test_blk_req", ["virtio/iovs.c"]),
    "net/mmds_http.c": ("test_mmds_http", []),
    "net/mmds_image.c": ("test_mmds_image", MMDS_IMAGE),
    "net/mmds_port.c": ("test_mmds", ["net/mmds.c", *MMDS]),
    "net/mmds_serve.c": ("test_mmds_serve", MMDS_SERVE),
    "net/mmds_tcp_in.c": ("test_mmds_tcp", ["net/mmds_tcp.c", *MMDS_TCP]),
    "net/mmds_token.c": ("test_mmds_token", ["net/siphash.c"]),
    "vmm/config_check.c": ("test_config_check", ["vmm/config.c",
                                                 "vmm/config_put.c"]),
    "vmm/config_put.c": ("test_config", ["vmm/config.c"]),
    "vmm/console.c": ("test_console", []),
    "vmm/cpu_instance.c": ("test_cpu_template", ["vmm/cpu_level.c",
                                                 "vmm/cpu_template.c"]),
    "vmm/cpu_level.c": ("test_cpu_template", ["vmm/cpu_instance.c",
                                              "vmm/cpu_template.c"]),
    "vmm/cpu_template.c": ("test_cpu_template", ["vmm/cpu_instance.c",
                                                 "vmm/cpu_level.c"]),
    "vmm/cpuid.c": ("test_cpuid", []),
    "vmm/generation.c": ("test_generation", ["virtio/gmem.c"]),
    "vmm/memory_plan.c": ("test_memory_plan", []),
    "vmm/msg.c": ("test_msg", []),
    "vmm/msrs.c": ("test_msrs", ["tests/unit/fake_kvm.c"]),
    "vmm/vcpu.c": ("test_vcpu", ["tests/unit/fake_kvm.c", "vmm/bus.c",
                                 "vmm/vcpu_exit.c"]),
    "vmm/vcpu_exit.c": ("test_vcpu_exit", ["tests/unit/fake_kvm.c",
                                           "vmm/bus.c"]),
    "vmm/vm_events.c": ("test_vm_events", ["base/log.c"]),
}

# Mutants that change nothing anyone could see: (file, kind, code) -> why.
SAME = "equal: both ways come to the same"
NEVER = "memory does not run out here"
DESCRIPTOR = "equal: descriptor 0 is open"
NO_DEVICE = "there is no block device here"
ZEROS = "equal: what is not there is all zeros"
EQUIVALENT = {
    ("daemon/memory_sample.c", "edge", "n < 0"):
        "equal: what is empty is not one, either",
    ("daemon/throttle.c", "gone", "!vm->throttle_seen"): NEVER,
    ("daemon/throttle.c", "edge",
     "loop_set_timer(w->loop, &w->timer, now_ns + THROTTLE_LOOK_NS) < 0"):
        NEVER,
    ("daemon/throttle.c", "gone",
     "loop_set_timer(w->loop, &w->timer, now_ns + THROTTLE_LOOK_NS) < 0"):
        NEVER,
    ("daemon/state.c", "edge", "fd < 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "dir < 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "s->lock_fd < 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "ret->vms_fd < 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "ret->procs_fd < 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "shared >= 0"): DESCRIPTOR,
    ("daemon/state.c", "edge", "listen_fd < 0"): DESCRIPTOR,
    ("daemon/state.c", "gone", "fd < 0"):
        "equal: what is done with it next fails as well",
    ("daemon/state.c", "edge", "mkdirat(dir, name, 0700) < 0"):
        "equal but for an errno left from before",
    ("daemon/state.c", "gone", "!made"): "equal: it cannot be opened then",
    ("daemon/state.c", "gone", "!text"): NEVER,
    ("daemon/state.c", "gone", "!d"): NEVER,
    ("daemon/state.c", "gone", "r < 0"): "no file fails to be read here",
    ("daemon/state.c", "gone", "listen(fd, MSG_CONTROL_BACKLOG) < 0"): "it does not fail",
    ("daemon/state.c", "edge", "unlinkat(dir, path, 0) < 0"): SAME,
    ("daemon/state.c", "gone", "errno == EISDIR"):
        "equal: a second try removes nothing",
    ("daemon/state.c", "gone", "!key[0]"):
        "it would remove files in the host's root directory",
    ("daemon/state.c", "edge", "r < 0"): "equal: what is renamed is not there",
    ("daemon/state.c", "edge", "n < 0"): "no link is empty",
    ("daemon/state.c", "edge", "n > 0"): "no entry is empty",
    ("daemon/state.c", "gone", "n > 0"): "no entry is empty",
    ("virtio/memdev.c", "gone", "budget-- == 0"):
        "only a driver that goes on adding while it is served could tell",
    ("virtio/pmem.c", "gone", "!p->running"):
        "a turn left over from before a reset, by another thread's timing",
    ("virtio/pmem.c", "gone", "p->serve_again"):
        "serving a ring once more than needed changes nothing",
    ("virtio/pmem.c", "gone", "r == 0"): NEVER,
    ("virtio/balloon.c", "edge", "n > RANGE_BYTES_PER_CALL"): SAME,
    ("virtio/balloon.c", "edge", "all - *done < PFNS_PER_CALL"): SAME,
    ("virtio/balloon.c", "edge", "now >= *ret_retry_ns"):
        "equal: it is asked for a nanosecond later",
    ("virtio/balloon.c", "edge", "ret_queues[role] >= 0"):
        "equal: the first queue is the same by any count",
    ("virtio/balloon.c", "gone", "!b"): NEVER,
    ("virtio/balloon_hint.c", "edge", "h->last_run < FIRST_RUN"): SAME,
    ("virtio/balloon_pages.c", "edge", "x < y"): SAME,
    ("virtio/balloon_pages.c", "gone", "x < y"):
        "glibc's qsort() only asks whether one is greater",
    ("virtio/balloon_pages.c", "edge", "from < to"):
        "equal: there is no page in 0 bytes",
    ("virtio/balloon_pages.c", "edge", "at < off"): SAME,
    ("virtio/balloon_pages.c", "edge", "end - at < n"): SAME,
    ("virtio/balloon_stats.c", "edge", "n > ENTRIES_MAX"): SAME,
    ("virtio/rng.c", "gone", "!rate_limiter_active(&r->limiter)"):
        "equal: what has no limit may be taken",
    ("virtio/rng.c", "edge", "n > len - done"): SAME,
    ("virtio/rng.c", "edge", "got > 0"): SAME,
    ("virtio/rng.c", "edge", "len > RNG_REQ_BYTES_MAX"): SAME,
    ("virtio/rng.c", "gone", "!r"): NEVER,
    ("virtio/vconsole.c", "edge", "n > c->input_n"): SAME,
    ("virtio/vconsole.c", "edge", "n > s->chain.wr.len - done"): SAME,
    ("virtio/vconsole.c", "edge", "n > PIECE_BYTES"): SAME,
    ("virtio/vconsole.c", "gone", "c->sent_bytes == from->len"):
        "equal: it is answered a turn later",
    ("virtio/vconsole.c", "gone", "!c"): NEVER,
    ("virtio/vq_service.c", "edge", "s->timer.deadline_ns > retry_ns"):
        "equal: it is set to the same time once more",
    ("virtio/vq_service.c", "edge", "r < 0"): SAME,
    ("virtio/gmem.c", "edge", "gpa + len < gpa"):
        "equal: len is 0, which is refused",
    ("virtio/gmem.c", "edge", "m->regions[at].gpa < gpa"):
        "equal: an overlap, found on the other side",
    ("virtio/gmem.c", "edge", "mem_bytes < hole"): SAME,
    ("virtio/gmem.c", "edge", "len > UINT64_MAX - HUGE_BYTES"): SAME,
    ("virtio/gmem.c", "gone", "flags & MAP_HUGETLB"):
        "equal where there are no huge pages",
    ("virtio/gmem.c", "edge", "off >= h->len"):
        "equal: 0 bytes are left",
    ("virtio/iovs.c", "edge", "off >= len"): "equal: copies 0 bytes",
    ("virtio/memdev.c", "gone", "m->serve_again"): "equal: a look more",
    ("virtio/memdev.c", "gone", "!m"): NEVER,
    ("virtio/memdev.c", "edge", "r < 0"): "equal: no error is 0",
    ("virtio/memdev_req.c", "edge", "usable > p->usable"): SAME,
    ("virtio/memdev_req.c", "edge", "off >= p->usable"):
        "equal: no block is left",
    ("virtio/memdev_req.c", "edge", "p->plugged > p->requested"):
        "equal: no block is left",
    ("virtio/memdev_req.c", "edge", "most < STEP_BYTES"): SAME,
    ("virtio/memdev_req.c", "edge", "n > most"): SAME,
    ("virtio/memdev_req.c", "edge", "n < p->end - p->at"): SAME,
    ("virtio/pmem.c", "gone", "!rate_limiter_active(&p->limiter)"): SAME,
    ("virtio/pmem.c", "edge", "n < 0"): "equal: four bytes are a piece",
    ("virtio/pmem.c", "edge", "r < 0"): "equal: no error is 0",
    ("virtio/pmem.c", "gone", "!p"): NEVER,
    ("virtio/pmem.c", "gone", "!p->waiting"): NEVER,
    ("virtio/pmem.c", "gone", "!p->syncing"): NEVER,
    ("vmm/memory_plan.c", "edge", "nested < bits"): SAME,
    ("vmm/memory_plan.c", "edge", "ram_bytes > LAYOUT_HOLE"): SAME,
    ("virtio/iovs.c", "edge", "len > n"): SAME,
    ("virtio/iovs.c", "edge", "ret[n].iov_len > len"): SAME,
    ("virtio/mmio.c", "edge", "off >= d->config_len"):
        "equal: 0 bytes are left",
    ("virtio/mmio.c", "edge", "len > d->config_len - off"): SAME,
    ("virtio/mmio.c", "gone", "!d->kick_fds"): NEVER,
    ("virtio/mmio.c", "edge", "d->kick_fds[i] < 0"):
        "equal: 0 is standard input, which is open",
    ("virtio/mmio.c", "gone", "!m"): NEVER,
    ("virtio/rate_limiter.c", "edge", "ns > UINT64_MAX"): SAME,
    ("virtio/rate_limiter.c", "edge", "n < b->debt"): SAME,
    ("virtio/rate_limiter.c", "edge", "now_ns <= b->filled_ns"): SAME,
    ("virtio/rate_limiter.c", "edge", "gained > UINT64_MAX"): SAME,
    ("virtio/rate_limiter.c", "edge", "n > b->burst"): SAME,
    ("virtio/rate_limiter.c", "edge", "a > UINT64_MAX - b"): SAME,
    ("virtio/rate_limiter.c", "edge", "soon_ns > full_ns"): SAME,
    ("virtio/rate_limiter.c", "edge", "enough_ns > soon_ns"): SAME,
    ("virtio/rate_limiter.c", "edge", "rest > b->tokens"): SAME,
    ("virtio/rate_limiter.c", "edge", "for_bytes > for_ops"): SAME,
    ("virtio/worker_loop.c", "edge", "(*at)->deadline_ns <= deadline_ns"):
        "equal: of two at the same time, either may be first",
    ("virtio/worker_loop.c", "edge", "w->timers->deadline_ns <= now"):
        "equal: it is the next turn's",
    ("virtio/worker_loop.c", "edge", "w->timers->deadline_ns > now"): SAME,
    ("virtio/worker_loop.c", "edge", "cqe->res < 0"):
        "equal: a poll tells of some event",
    ("virtio/worker_loop.c", "edge", "left > LONGEST_SLEEP_NS"): SAME,
    ("virtio/worker_loop.c", "gone", "left > LONGEST_SLEEP_NS"):
        "newer kernels saturate by themselves",
    ("virtio/worker_loop.c", "edge",
     "w->in_flight - w->n_polls >= w->in_flight_max"):
        "equal: there is room to spare",
    ("virtio/worker_loop.c", "gone",
     "w->in_flight - w->n_polls >= w->in_flight_max"):
        "equal: the kernel keeps completions that find no room",
    ("virtio/worker_loop.c", "gone", "!w->renews"):
        "equal: it costs time alone",
    ("virtio/worker_loop.c", "gone", "!may_wait_long(op)"):
        "equal: it costs time alone",
    ("virtio/worker_loop.c", "gone", "!sqe"):
        "the second: the kernel takes what is submitted",
    ("virtio/worker_loop.c", "gone", "res == -EINTR"):
        "only of requests that block a thread",
    ("virtio/worker_loop.c", "gone", "!w->ready.first"): SAME,
    ("virtio/worker_files.c", "gone", "res == -ETIME"):
        "equal: there is nothing to renew when it stops",
    ("virtio/worker_files.c", "gone", "n < 8"): "equal: more allocations",
    ("virtio/worker_files.c", "gone", "(n & (n - 1))"):
        "equal: more allocations",
    ("virtio/worker_files.c", "gone", "!p"): NEVER,
    ("virtio/worker_files.c", "gone", "!files"): NEVER,
    ("virtio/worker_files.c", "edge", "w->files[i] >= 0"):
        "equal: 0 is standard input, which is open",
    ("virtio/worker_files.c", "edge", "index < w->spare_hint"): SAME,
    ("virtio/worker_files.c", "gone", "worker_current != w"):
        "equal: the kernel refuses another thread",
    ("virtio/worker_files.c", "gone", "w->renews"):
        "equal: it costs time alone",
    ("block/raw.c", "edge", "io->len < sizeof(zeroes)"): SAME,
    ("block/raw.c", "edge", "io->len < BOUNCE_BYTES"): SAME,
    ("block/raw.c", "edge", "res < 0"): "equal: nothing was moved",
    ("block/raw.c", "gone", "res == -EINVAL"): NO_DEVICE,
    ("block/raw.c", "gone", "fstat(fd, &st) == 0"): NO_DEVICE,
    ("block/raw.c", "gone", "S_ISBLK(st.st_mode)"): NO_DEVICE,
    ("block/raw.c", "gone", "io->cancelled"):
        "of zeroes: the cancel reaches the write in the kernel first",
    ("block/raw.c", "gone", "!r"): NEVER,
    ("block/raw.c", "gone", "r->bounce.iov_base == MAP_FAILED"): NEVER,
    ("block/raw.c", "gone", "r->bounce.iov_base != MAP_FAILED"): NEVER,
    ("api/fields.c", "gone", "!copy"): NEVER,
    ("api/fields.c", "gone", "json_object_is_type(v, json_type_string)"):
        "equal: nothing else reads like a choice",
    ("virtio/vsock_buf.c", "gone", "p == MAP_FAILED"): NEVER,
    ("virtio/vsock_buf.c", "gone", "a->mem"): "equal: nothing is unmapped",
    ("virtio/vsock_buf.c", "edge", "a->n_promised < POOL_BLOCKS"): SAME,
    ("virtio/vsock_buf.c", "edge", "credit < VSOCK_CREDIT_MIN"): SAME,
    ("virtio/vsock_buf.c", "edge", "a->n_touched > KEEP_BLOCKS"):
        "equal: a system call more or less",
    ("virtio/vsock_buf.c", "edge", "n > len"): SAME,
    ("virtio/vsock_buf.c", "edge", "len > left"): SAME,
    ("virtio/vsock_buf.c", "edge", "len > b->len"): SAME,
    ("block/blk_req.c", "edge", "sector <= rules->capacity_sectors"):
        "equal: any length is over the end",
    ("vmm/config_check.c", "edge", "c->n_drives > 0"): ZEROS,
    ("vmm/config_check.c", "gone", "c->n_drives > 0"): ZEROS,
    ("vmm/config_check.c", "edge", "c->n_pmem > 0"): ZEROS,
    ("vmm/config_check.c", "gone", "c->n_pmem > 0"): ZEROS,
    ("vmm/config_check.c", "gone", "n < 0"): "snprintf() does not fail here",
    ("vmm/config_put.c", "edge", "c->n_drives > 0"): ZEROS,
    ("vmm/config_put.c", "gone", "c->n_drives > 0"): ZEROS,
    ("vmm/config_put.c", "edge", "c->n_pmem > 0"): ZEROS,
    ("vmm/config_put.c", "gone", "c->n_pmem > 0"): ZEROS,
    ("vmm/cpu_level.c", "edge", "at + size > end"): SAME,
    ("vmm/msrs.c", "edge", "r < 0"): SAME,
    ("net/mmds_http.c", "gone", "t.len"): "equal: a line's end follows",
    ("net/mmds_http.c", "edge", "t.len > n"): SAME,
    ("net/mmds_http.c", "gone", "t.len > n"): SAME,
    ("net/mmds_http.c", "gone", "t.len == 0"):
        "equal: what follows is no slash",
    ("net/mmds_http.c", "edge", "n < HTTP_HEAD_MAX"): SAME,
    ("net/mmds_image.c", "edge", "len < sizeof(*img)"): SAME,
    ("net/mmds_image.c", "gone", "img->n_entries < 1"):
        "equal: the root is one",
    ("net/mmds_image.c", "edge", "r < 0"): "equal: 0 has returned",
    ("net/mmds_port.c", "gone", "len < sizeof(tcp)"):
        "equal: the header's own length is over the end",
    ("net/mmds_port.c", "gone", "!p"): NEVER,
    ("net/mmds_port.c", "edge", "total < sizeof(ip)"): SAME,
    ("net/mmds_port.c", "edge", "len < sizeof(piece)"): SAME,
    ("net/mmds_serve.c", "edge", "i > 0"): "equal: no slash is before a path",
    ("net/mmds_serve.c", "gone", "i > 0"): "equal: no slash is before a path",
    ("net/mmds_serve.c", "edge", "used < 0"): "equal: 0 has returned",
    ("vmm/cpuid.c", "gone", "!e"): "a full table is refused a leaf earlier",
    ("vmm/cpuid.c", "gone", "r < 0"): "the next leaf has no room either",
    ("vmm/cpuid.c", "gone", "r == 0"): "the next leaf has no room either",
    ("vmm/cpuid.c", "edge", "e->eax < 0xb"): SAME,
    ("vmm/msg.c", "gone", "(size_t)n < sizeof(ret->hdr)"):
        "equal: it has no type's size",
    ("vmm/vcpu.c", "edge", "sigaction(VCPU_SIGNAL, &sa, NULL) < 0"):
        "it does not fail here",
    ("vmm/vcpu.c", "gone", "want == VCPUS_RUN"):
        "equal: KVM_RUN is left and entered once more",
    ("vmm/vcpu.c", "gone", "run"): "equal: the guest never sees its clock",
    ("vmm/vcpu.c", "gone", "waited"): "equal: a clock may be told twice",
    ("vmm/vcpu.c", "edge", "r < 0"): SAME,
    ("vmm/vcpu.c", "gone", "r < 0"): SAME,
    ("vmm/vcpu.c", "gone", "s->start_error == 0"): "any of the errors will do",
    ("vmm/vcpu.c", "gone", "r != 0"): NEVER,
    ("vmm/vcpu.c", "edge", "r > 0"): SAME,
    ("vmm/vcpu.c", "gone", "r > 0"): "a thread can be made here",
    ("vmm/vcpu.c", "edge", "c->fd < 0"): "equal: 0 is open",
    ("vmm/vcpu.c", "edge", "c->fd >= 0"): "equal: 0 is open",
    ("vmm/vcpu.c", "gone", "c->fd >= 0"): "equal: nothing is closed",
    ("vmm/vcpu.c", "gone", "c->run"): "equal: nothing is unmapped",
    ("vmm/vcpu.c", "edge", "run_bytes < (int)sizeof(struct kvm_run)"):
        "KVM's is larger",
    ("vmm/vcpu.c", "gone", "s->want == VCPUS_PAUSE"):
        "equal: a thread that ends counts as parked",
    ("vmm/vcpu_exit.c", "edge",
     "n > sizeof(run->emulation_failure.insn_bytes)"): SAME,
    ("vmm/vcpu.c", "gone", "s->n == 0"): "equal: there is none to stop",
}

CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-w", "-I.",
          "-fsanitize=address", "-fno-omit-frame-pointer"]
LIBS = ["-lcheck", "-ljson-c", "-luring", "-lsubunit", "-lrt", "-lm",
        "-lpthread"]
TIMEOUT_S = 10

PRELUDE = """\
extern int mutant_alive;
#define MUTANT(n) (mutant_alive == (n))
"""
MAIN = """\
#include <stdlib.h>
int mutant_alive;
__attribute__((constructor)) static void choose(void)
{
	const char *s = getenv("MUTANT");

	mutant_alive = s ? atoi(s) : 0;
}
"""


class Mutant:
    def __init__(self, number, path, line, kind, code):
        self.number = number
        self.path = path
        self.line = line
        self.kind = kind
        self.code = " ".join(code.split())


def blank(text, comments_only=False):
    """The same text, with spaces where comments and strings are."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''

    def spaces(m):
        if comments_only and m.group()[0] in "\"'":
            return m.group()
        return re.sub(r"[^\n]", " ", m.group())
    return re.sub(pattern, spaces, text, flags=re.S)


def closing(text, start):
    """Where the parenthesis at start is closed."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise ValueError("unbalanced parentheses")


def split(expr, operator):
    """Operands of a top-level operator."""
    parts, depth, last, i = [], 0, 0, 0
    while i < len(expr):
        if expr[i] in "([{":
            depth += 1
        elif expr[i] in ")]}":
            depth -= 1
        elif depth == 0 and expr.startswith(operator, i):
            parts.append(expr[last:i])
            i += len(operator)
            last = i
            continue
        i += 1
    parts.append(expr[last:])
    return parts


COMPARISON = re.compile(r"(?<![<>=!\-&|])\s(<=|>=|<|>)\s(?![<>=])")
OFF_BY_ONE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


class File:
    def __init__(self, path, first_number):
        self.path = path
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            self.original = f.read()
        self.text = blank(self.original)
        self.code = blank(self.original, comments_only=True)
        self.mutants = []
        self.next = first_number
        self.edits = []

    def add(self, offset, kind, code):
        line = self.text.count("\n", 0, offset) + 1
        self.mutants.append(Mutant(self.next, self.path, line, kind, code))
        self.next += 1
        return self.next - 1

    def condition(self, expr, offset, neutral):
        """An expression that means the same unless one of its mutants is
        alive. neutral: its value when it is gone."""
        for operator, unit in (("||", "0"), ("&&", "1")):
            parts = split(expr, operator)
            if len(parts) == 1:
                continue
            done, at = [], offset
            for part in parts:
                done.append(self.condition(part, at, unit))
                at += len(part) + len(operator)
            return "(" + (" %s " % operator).join(done) + ")"
        # Strings are blank in expr, and where they are is told by it.
        raw = self.code[offset:offset + len(expr)]
        code = raw.strip()
        lead = len(raw) - len(raw.lstrip())
        stripped = expr[lead:lead + len(code)]
        if stripped.startswith("(") and closing(stripped, 0) == len(
                stripped) - 1 and re.search(r"&&|\|\|", stripped):
            return self.condition(stripped[1:-1], offset + lead + 1, neutral)
        result = "!!(%s)" % code
        found = list(COMPARISON.finditer(stripped))
        if len(found) == 1:
            n = self.add(offset + lead, "edge", code)
            at = found[0]
            other = "%s %s %s" % (code[:at.start()], OFF_BY_ONE[at.group(1)],
                                  code[at.end():])
            result = "(MUTANT(%d) ? (%s) : %s)" % (n, other, result)
        n = self.add(offset + lead, "gone", code)
        return "(MUTANT(%d) ? %s : %s)" % (n, neutral, result)

    def edit(self, start, end, new):
        self.edits.append((start, end, new))

    def mutate(self):
        text = self.text
        for m in re.finditer(r"\b(if|while) \(", text):
            start = m.end() - 1
            end = closing(text, start)
            neutral = "0" if m.group(1) == "if" else "1"
            new = self.condition(text[start + 1:end], start + 1, neutral)
            self.edit(start + 1, end, new)
        # return a && b; and: return c ? x : y; and: v = c ? x : y;
        for m in re.finditer(r"(?:\breturn|[^=!<>]=)\s+([^;{}]*);", text):
            expr, start = m.group(1), m.start(1)
            choice = split(expr, " ? ")
            if len(choice) == 2:
                new = self.condition(choice[0], start, "0")
                self.edit(start, start + len(choice[0]), new)
            elif re.search(r"&&|\|\|", expr) or COMPARISON.search(expr):
                if text[m.start():m.start() + 6] == "return":
                    self.edit(start, m.end(1),
                              self.condition(expr, start, "1"))
        for m in re.finditer(r"& (\(\w+->size - 1\))", text):
            n = self.add(m.start(), "mask", m.group())
            self.edit(m.start(1), m.end(1),
                      "(MUTANT(%d) ? 0xffff : %s)" % (n, m.group(1)))
        text = self.original
        for start, end, new in sorted(self.edits, reverse=True):
            text = text[:start] + new + text[end:]
        return PRELUDE + "#line 1 \"%s\"\n" % self.path + text


def program(tmp, path):
    """The test with this file's mutants in it."""
    return os.path.join(tmp, path.replace("/", "-") + ".test")


def compile_all(files, tmp):
    main = os.path.join(tmp, "mutant_main.c")
    with open(main, "w", encoding="utf-8") as f:
        f.write(MAIN)
    for path, target in files.items():
        test, others = TARGETS[path]
        mutated = os.path.join(tmp, os.path.basename(path))
        # In its place: headers beside it are found through -I.
        with open(mutated, "w", encoding="utf-8") as f:
            f.write(target.source)
        command = ["cc", *CFLAGS, "-Itests/unit", "-o",
                   program(tmp, path), main, mutated,
                   "tests/unit/%s.c" % test, *others, *BASE, *LIBS]
        subprocess.run(command, cwd=ROOT, check=True)


def run(tmp, path, number):
    """The test's verdict on a mutant: what killed it, or None."""
    env = dict(os.environ, MUTANT=str(number), CK_FORK="no",
               CK_VERBOSITY="normal",
               ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1")
    try:
        done = subprocess.run([program(tmp, path)], cwd=tmp, env=env,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT_S,
                              errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return "does not end"
    if done.returncode == 0:
        return None
    failed = re.search(r":[FE]:[^:]*:(\w+):\d+:", done.stdout)
    if failed:
        return failed.group(1)
    asan = re.search(r"AddressSanitizer: ([\w-]+)", done.stdout)
    if asan:
        return "AddressSanitizer: " + asan.group(1)
    return "ends with %d" % done.returncode


def main():
    chosen = sys.argv[1:] or list(TARGETS)
    files, number = {}, 1
    for path in chosen:
        if path not in TARGETS:
            sys.exit("no such target: %s (there are: %s)"
                     % (path, " ".join(TARGETS)))
        files[path] = File(path, number)
        files[path].source = files[path].mutate()
        number = files[path].next

    survivors, excused = [], set()
    with tempfile.TemporaryDirectory(prefix="mayfly-mutate-") as tmp:
        compile_all(files, tmp)
        for path in files:
            if run(tmp, path, 0):
                sys.exit("%s fails without any mutant" % TARGETS[path][0])
        mutants = [m for f in files.values() for m in f.mutants]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            verdicts = pool.map(
                lambda m: run(tmp, m.path, m.number), mutants)
            for m, verdict in zip(mutants, verdicts):
                key = (m.path, m.kind, m.code)
                if verdict is None and key in EQUIVALENT:
                    verdict = "(equivalent: %s)" % EQUIVALENT[key]
                    excused.add(key)
                elif verdict is None:
                    survivors.append(m)
                    verdict = "SURVIVED"
                print("%-16s %4d  %s  %-44s  %s" % (
                    m.path, m.line, m.kind, m.code[:44], verdict),
                    flush=True)

    # One that timing kills now and then stays equivalent.
    made = {(m.path, m.kind, m.code) for m in mutants}
    stale = [k for k in EQUIVALENT if k[0] in files and k not in made]
    for key in stale:
        print("no such mutant any more: %s %s %s" % key)
    print("%d mutants, %d survived, %d equivalent" % (
        len(mutants), len(survivors), len(excused)))
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main())
