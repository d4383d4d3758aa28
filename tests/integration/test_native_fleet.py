"""Many VMs at a time: what tools/bench fleet counts, in small. What it times is
left to people: a busy machine must not fail here."""

import json
import os
import subprocess

from harness import native

VMS = 100


@native()
def test_fleet_comes_and_goes_over_many_connections(t):
    report = t.path("fleet.json")
    done = subprocess.run(
        [os.path.join(t.build, "tools", "bench_fleet"), "--vms", str(VMS),
         "--connections", "1,64", "--json", report],
        capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done
    with open(report, encoding="utf-8") as f:
        seen = json.load(f)
    assert [s["connections"] for s in seen["stages"]] == [1, 64], seen
    for stage in seen["stages"]:
        assert (stage["started"], stage["refused"], stage["failed"]) == (
            VMS, 0, 0), stage
        assert stage["goals_met"]["private_memory"], stage
        assert 0 < stage["first_word_ns"]["p50"] <= (
            stage["first_word_ns"]["p99"]), stage
    for what, before in seen["before"].items():
        assert seen["after"][what] <= before, (what, seen)
