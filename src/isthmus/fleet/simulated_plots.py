"""A simulation as drawings that stand alone: quality over rounds and over days, and what became of the devices asked."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.fleet.simulate import Outcome
from isthmus.report.svg import Axis, Line, decimals, line_chart, nice

_STYLE = (
    "<style>svg{background:#fff;font:12px sans-serif}text{fill:#333}.grid{stroke:#ddd}.zero{stroke:#999}"
    ".line{fill:none;stroke-width:2.2}.line.s1{stroke:#1f5fa8}.line.s2{stroke:#c2571a;stroke-dasharray:7 4}"
    ".line.s3{stroke:#5a5a5a;stroke-dasharray:2 3}</style>"
)


def drawings(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """File name to SVG; empty for fewer than two rounds."""
    if len(outcomes) < 2:
        return {}
    rounds = [float(o.round + 1) for o in outcomes]
    days = [o.hours / 24 for o in outcomes]
    accuracy = [o.accuracy for o in outcomes]
    of_devices = [
        [float(count) for count in counts]
        for counts in zip(*((o.asked, o.reports) for o in outcomes), strict=True)
    ]
    return {
        "accuracy-by-round.svg": _chart(
            "Accuracy on held-out examples", "round", "accuracy", rounds, [accuracy]
        ),
        "accuracy-by-day.svg": _chart("Accuracy on held-out examples", "days", "accuracy", days, [accuracy]),
        "devices.svg": _chart(
            "Devices asked (solid) and counted (dashed)", "round", "devices", rounds, of_devices
        ),
    }


def _chart(title: str, x_name: str, y_name: str, x: list[float], lines: list[list[float]]) -> str:
    low, high = nice(min(map(min, lines)), max(map(max, lines)))
    left, right = (x[0], x[-1]) if x[-1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
    drawn = line_chart(
        title,
        Axis(x_name, left, right, decimals(left, right)),
        Axis(y_name, low, high, decimals(low, high)),
        [Line(f"s{place}", tuple(zip(x, line, strict=True))) for place, line in enumerate(lines, 1)],
    )
    return drawn.replace("<title>", _STYLE + "<title>", 1)
