"""Draws a work as SVG: a group of bars for each case, CPU for each unit, the spread as a thin line."""

from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, LABEL, FULL = 760, 150, 500  # pixels: all of it, the names, the longest bar
HEIGHT, GAP, TITLE = 16, 4, 30
OURS, THEIRS, LINE = "#2266aa", "#b8bec6", "#333333"


def plot(work: str, cases: Mapping[str, Any], measure: str = "cpu") -> str:
    """Each case has its own scale; a case that wasn't measured so has no group."""
    parts: list[str] = []
    y = 8
    for name, case in cases.items():
        bars = {one: found[measure] for one, found in case["servers"].items() if measure in found}
        if not bars:
            continue
        longest = max(bar["high"] for bar in bars.values()) or 1.0
        parts.append(_text(8, y + 16, f"{work}: {name}, µs of CPU a {case['unit']}", "bold"))
        y += TITLE - 6
        for server, bar in bars.items():
            parts += _bar(y, server, bar, FULL / longest)
            y += HEIGHT + GAP
        y += 10
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
        ' font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>\n{body}\n</svg>\n'
    )


def _bar(y: int, server: str, bar: Mapping[str, float], scale: float) -> list[str]:
    length, low, high = (bar[one] * scale for one in ("median", "low", "high"))
    middle = y + HEIGHT / 2
    color = OURS if server.startswith("sockd") else THEIRS
    return [
        _text(8, y + 12, server),
        f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{HEIGHT}" fill="{color}"/>',
        f'<path d="M{LABEL + low:.1f} {middle}H{LABEL + high:.1f}" stroke="{LINE}"/>',
        _text(LABEL + max(length, high) + 8, y + 12, f"{bar['median']:.3g}"),
    ]


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
