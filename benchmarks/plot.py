"""Draws the ratios of a JSON of results as a PNG beside it; run by the Python of the peers' environment, which has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_COLOURS = {"floor": "#9aa5b1", "ours": "#1f6feb", "peer": "#d9822b"}


def draw(source: Path) -> Path:
    """A panel a group: every contender's seconds as a multiple of the group's floor, on a logarithmic axis."""
    found = json.loads(source.read_text(encoding="utf-8"))
    groups: dict[str, list[dict[str, object]]] = {}
    for each in found["contenders"]:
        groups.setdefault(each["group"], []).append(each)
    groups = {name: [each for each in rows if "seconds" in each] for name, rows in groups.items()}
    heights = [len(rows) + 1.2 for rows in groups.values()]
    figure, panels = plt.subplots(len(groups), 1, figsize=(10, 0.34 * sum(heights) + 1), height_ratios=heights, squeeze=False, layout="constrained")
    for panel, (name, rows) in zip(panels[:, 0], groups.items(), strict=True):
        base = "times_load" if any(each["times_load"] for each in rows) else "times_parse"
        labels = [f"{each['name']}{', ' if each['night'] else ''}{each['night']}" for each in rows]
        ratios = [each[base] or 0 for each in rows]
        bars = panel.barh(range(len(rows)), ratios, color=[_COLOURS[str(each["kind"])] for each in rows])
        panel.bar_label(bars, [f"{ratio:.2f} ×  ({each['seconds']:.3g} s)" for ratio, each in zip(ratios, rows, strict=True)], padding=3, fontsize=8)
        panel.set_yticks(range(len(rows)), labels, fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.margins(x=0.25)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title(f"{name}: seconds × {'the bare load into keyed tables' if base == 'times_load' else 'parsing with pyarrow'}", fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{found['students']:,} students, {found['rows']:,} rows a night, medians of {found['rounds']}; grey floors, blue ours, orange peers", fontsize=9
    )
    figure.savefig(source.with_suffix(".png"), dpi=110)
    return source.with_suffix(".png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
