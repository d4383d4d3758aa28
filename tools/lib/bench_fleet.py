#!/usr/bin/python3
"""tools/bench fleet: runs bench_fleet, and draws what it measured.

usage: bench_fleet.py PROGRAM [--plot FILE] [OPTION OF PROGRAM...]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile

LEFT, TOP, WIDTH, HEIGHT, RIGHT, BOTTOM = 70, 46, 460, 300, 200, 50
LINES = (  # (title, key, percentile, colour, dashes)
    ("raw KVM, p50", "floor_ns", "p50", "#777777", ""),
    ("raw KVM, p99", "floor_ns", "p99", "#777777", "5,4"),
    ("PUT to the first word, p50", "first_word_ns", "p50", "#2f6f9f", ""),
    ("PUT to the first word, p99", "first_word_ns", "p99", "#2f6f9f", "5,4"),
    ("DELETE to 204, p50", "delete_ns", "p50", "#c98a1b", ""),
    ("DELETE to 204, p99", "delete_ns", "p99", "#c98a1b", "5,4"),
)


def draw(report):
    """Milliseconds, on a logarithmic axis, over connections at a time."""
    stages = report["stages"]
    values = [s[key][p] / 1e6 for s in stages for _, key, p, _, _ in LINES]
    low = math.floor(math.log10(max(min(values), 1e-3)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    step = WIDTH / max(len(stages) - 1, 1)

    def y(ms):
        return TOP + HEIGHT * (high - math.log10(max(ms, 1e-3))) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" '
           f'width="{LEFT + WIDTH + RIGHT}" height="{TOP + HEIGHT + BOTTOM}" '
           'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-weight="bold">{report["vms"]} VMs: '
           'milliseconds, by how many connections ask at a time</text>']
    for power in range(low, high + 1):
        at = y(10 ** power)
        out += [f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + WIDTH}" '
                f'y2="{at:.1f}" stroke="#dddddd"/>',
                f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
                f'{10 ** power:g}</text>']
    for i, stage in enumerate(stages):
        out.append(f'<text x="{LEFT + i * step:.1f}" '
                   f'y="{TOP + HEIGHT + 22}" text-anchor="middle">'
                   f'{stage["connections"]}</text>')
    for n, (title, key, p, colour, dashes) in enumerate(LINES):
        points = " ".join(f"{LEFT + i * step:.1f},{y(s[key][p] / 1e6):.1f}"
                          for i, s in enumerate(stages))
        style = f'fill="none" stroke="{colour}" stroke-width="2" ' \
                f'stroke-dasharray="{dashes}"'
        x, at = LEFT + WIDTH + 16, TOP + 10 + n * 20
        out += [f'<polyline points="{points}" {style}/>',
                f'<line x1="{x}" y1="{at}" x2="{x + 24}" y2="{at}" {style}/>',
                f'<text x="{x + 30}" y="{at + 4}">{title}</text>']
    return "\n".join(out) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("program")
    parser.add_argument("--plot")
    parser.add_argument("--json")
    options, rest = parser.parse_known_args()
    with tempfile.NamedTemporaryFile(suffix=".json") as scratch:
        path = options.json or scratch.name
        status = subprocess.run(
            [options.program, "--json", path, *rest], check=False).returncode
        if options.plot and status in (0, 1):
            with open(path, encoding="utf-8") as f:
                picture = draw(json.load(f))
            with open(options.plot, "w", encoding="utf-8") as f:
                f.write(picture)
    sys.exit(status)


if __name__ == "__main__":
    main()
