#!/usr/bin/python3
"""Count the tests in meson's testlog.json.

usage: meson-results.py TESTLOG

A program that says how many tests are in it counts for as many: Check's
summary ("100%: Checks: 12, Failures: 0, Errors: 0"), unittest's ("Ran 12 tests
in 0.1s", "OK"), or a last line "N passed, N failed, N skipped". Any other
counts for one. Prints what did not pass, and
the sum as its last line.
"""

import json
import re
import sys

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n\w+(?: \((.*)\))?$", re.M)
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped\s*\Z", re.M)


def counts(test):
    """(passed, failed, skipped) of one program."""
    text = test.get("stdout") or ""
    bad = test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
    passed = failed = skipped = 0
    match = COUNTS.search(text)
    if match:
        passed, failed, skipped = map(int, match.groups())
    for checks, failures, errors in CHECK.findall(text):
        failed += int(failures) + int(errors)
        passed += int(checks) - int(failures) - int(errors)
    for ran, details in UNITTEST.findall(test.get("stderr") or ""):
        kinds = dict(re.findall(r"(failures|errors|skipped)=(\d+)", details))
        bad_here = int(kinds.get("failures", 0)) + int(kinds.get("errors", 0))
        skipped += int(kinds.get("skipped", 0))
        failed += bad_here
        passed += int(ran) - bad_here - int(kinds.get("skipped", 0))
    if bad and not failed:
        failed = 1
    if test["result"] == "SKIP" and not (passed or failed or skipped):
        skipped = 1
    return (passed, failed, skipped) if passed + failed + skipped else (1, 0, 0)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    total = [0, 0, 0]
    with open(sys.argv[1], encoding="utf-8") as log:
        for line in log:
            test = json.loads(line)
            result = counts(test)
            total = [a + b for a, b in zip(total, result)]
            name = test["name"].split(" / ")[-1]
            if result[1]:
                print(f"not ok {name}: {test['result'].lower()}, see above")
            elif test["result"] == "SKIP":
                print(f"skip {name}: cannot run on this host")
    print("{} passed, {} failed, {} skipped".format(*total))


if __name__ == "__main__":
    main()
