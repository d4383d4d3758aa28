"""The ratios of tools/bench devices as a picture."""

from xml.sax.saxutils import escape

LABEL, BARS, ROW, TOP = 290, 380, 22, 46
COLOURS = {"boot": "#7a5195", "disk": "#2f6f9f", "net": "#2a9d72",
           "vsock": "#c98a1b", "counts": "#777777"}


def write(path, rows):
    widest = max(2.0, max(row.ratio() for row in rows) * 1.1)
    scale = BARS / widest
    height = TOP + ROW * len(rows) + 12
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + BARS}" '
           f'height="{height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LABEL}" y="18" font-weight="bold">Times better than '
           'QEMU microvm (1: the same)</text>']
    for i, row in enumerate(rows):
        y, ratio = TOP + i * ROW, row.ratio()
        colour = COLOURS[row.group]
        out.append(f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">'
                   f'{escape(row.title)}</text>')
        out.append(f'<rect x="{LABEL}" y="{y}" width="{ratio * scale:.1f}" '
                   f'height="{ROW - 6}" fill="{colour}"/>')
        out.append(f'<text x="{LABEL + ratio * scale + 5:.1f}" y="{y + 12}">'
                   f'{ratio:.2f}</text>')
    x = LABEL + scale
    out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" '
               f'y2="{height - 8}" stroke="black" stroke-dasharray="3,3"/>')
    out.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out))
