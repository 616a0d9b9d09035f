"""The ratios as a picture, drawn by hand: bars, and a line where each target is."""

from xml.sax.saxutils import escape

from benchmarks.report import Verdict, label

_WIDTH, _LEFT, _RIGHT = 940, 370, 90
_ROW, _BAR, _TOP = 46, 13, 74
_LONGEST = 2.0
"""Longer bars are cut off, and say their figure."""

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.title { font-size: 16px; font-weight: 600 }
.rate { fill: #2f6fd6 } .cpu { fill: #d9822b }
.target { stroke: #1f2328; stroke-width: 2.5 }
.even { stroke: #8c959f; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 }
  .rate { fill: #6ea8ff } .cpu { fill: #f0a860 }
  .target { stroke: #ffffff } .even { stroke: #6e7681 }
}
"""


def svg(verdicts: list[Verdict]) -> str:
    """One pair of bars a case. It has no background: it stands on the page's."""
    scale = (_WIDTH - _LEFT - _RIGHT) / _LONGEST
    rows = [(verdict.case, judged) for verdict in verdicts for judged in verdict.judged]
    height = _TOP + _ROW * len(rows) + 20
    even = _LEFT + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>Stillroom beside nginx: ratios by case, with targets</title>",
        f"<style>{_STYLE}</style>",
        '<text class="title" x="0" y="18">Stillroom beside nginx</text>',
        '<rect class="rate" x="0" y="32" width="14" height="12"/>',
        '<text x="20" y="43">requests per second</text>',
        '<rect class="cpu" x="170" y="32" width="14" height="12"/>',
        '<text x="190" y="43">requests per second of CPU</text>',
        '<line class="target" x1="388" x2="388" y1="30" y2="46"/>',
        '<text x="396" y="43">target</text>',
        f'<text class="small" x="{even:.0f}" y="{_TOP - 8}" text-anchor="middle">1.0: equal</text>',
        f'<line class="even" x1="{even:.0f}" x2="{even:.0f}" y1="{_TOP - 4}" y2="{height - 8}"/>',
    ]
    for number, (case, judged) in enumerate(rows):
        top = _TOP + number * _ROW
        row, target = judged.row, judged.target
        parts.append(f'<text x="0" y="{top + 19}">{escape(case.name)}</text>')
        note = label(judged).removeprefix(": ") or f"to {case.base}"
        if note != "to nginx":
            parts.append(f'<text class="small" x="0" y="{top + 33}">{escape(note)}</text>')
        bars = (("rate", row.rate_ratio, target.rate), ("cpu", row.cpu_ratio, target.cpu))
        for index, (kind, ratio, wanted) in enumerate(bars):
            y = top + 4 + index * (_BAR + 3)
            # A ratio of 10 to another base than nginx would make all other bars dots.
            length = min(ratio, _LONGEST) * scale
            parts.append(
                f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}"/>'
            )
            where, figure = _LEFT + length + 6, f"{ratio:.2f}"
            if wanted is not None and wanted > _LONGEST:
                figure += f", target {wanted:g}"
            elif wanted is not None:
                x = _LEFT + wanted * scale
                parts.append(
                    f'<line class="target" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 1}" '
                    f'y2="{y + _BAR + 1}"/>'
                )
                if where - 10 < x < where + 28:
                    where = x + 6  # beside the line, not on it
            parts.append(f'<text class="small" x="{where:.1f}" y="{y + 11}">{figure}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
