"""Pieces of the drawings that studies make, as SVG."""

import os
import sys


def apart(ends, least):
    """Labels moved so that none covers another, in order."""
    ends.sort()
    for _ in range(200):
        for upper, lower in zip(ends, ends[1:]):
            if (close := least - (lower[0] - upper[0])) > 0:
                upper[0] -= close / 2
                lower[0] += close / 2
    return ends


def rule(x, y, to_x, to_y):
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="#e4e4e4"/>'


def text(x, y, words, anchor="start", fill="#222", weight="400", size=12):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}" '
        f'font-size="{size}">{words}</text>'
    )


def document(width, height, parts):
    """A drawing on white."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="system-ui, sans-serif">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def write(path, drawing):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as picture:
        picture.write(drawing)
    print(f"drawn: {os.path.relpath(path)}", file=sys.stderr)


def line(points, colour, width, dashes="", opacity=1.0):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" '
        f'stroke-dasharray="{dashes or "none"}" stroke-opacity="{opacity}"/>'
    )
