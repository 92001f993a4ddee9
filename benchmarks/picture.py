"""The results as pictures: bars for each workload, and lines for what grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .report import competitors, number, times
from .results import Cell, Record
from .subjects import FLOOR, REFERENCE

COLOURS = {
    "asyncio": "#9aa5b1",
    "uvloop": "#5b6b7b",
    "zuvloop": "#c99a2e",
    "rsloop": "#b5651d",
    "rloop": "#8a5a83",
    "asyncio+aiofastnet": "#7fa99b",
    "uvloop+aiofastnet": "#4f7f70",
    "fastloop": "#1f77d0",
    "fastloop+patch": "#0b3d91",
    FLOOR: "#444444",
}
COLUMNS = 4
LOGARITHMIC = 8  # a panel whose bars lie further apart has a logarithmic axis
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 8,
    "svg.fonttype": "none",  # text stays text: small, and can be searched
    "svg.hashsalt": "fastloop",  # the same picture for the same numbers
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plotting() -> Any:
    """matplotlib, or None: there may be no wheel of it for a new Python."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update(STYLE)
    import matplotlib.pyplot

    return matplotlib.pyplot


def store(plot: Any, figure: Any, path: Path) -> str:
    figure.savefig(path, facecolor="white", metadata={"Date": None, "Creator": None})
    plot.close(figure)
    lines = [line.rstrip() for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    return path.name


# --- bars -----------------------------------------------------------------------------


def panel(axes: Any, row: Record, subjects: list[str]) -> None:
    """A bar for each subject: its ratio to the reference, its value at the end."""
    cells = [Cell(row, subject) for subject in subjects]
    cells = [one for one in cells if one.ratio is not None]
    ratios = [one.ratio or 0 for one in cells]
    places = range(len(cells))
    axes.barh(
        places, ratios, color=[COLOURS[one.subject] for one in cells], height=0.78
    )
    wide = max(ratios) / min(ratios) > LOGARITHMIC
    if wide:
        axes.set_xscale("log")
        axes.set_xlim(min(ratios) / 2, max(ratios) * 8)
    else:
        axes.set_xlim(0, max(ratios) * 1.55)
    axes.axvline(1, color="#5b6b7b", linewidth=0.6, linestyle=":")
    for place, one in zip(places, cells, strict=True):
        ours = one.subject.startswith("fastloop")
        axes.annotate(
            f" {times(one.ratio)}  {number(one.value, row['unit'])}",
            (one.ratio, place),
            va="center",
            fontsize=6.5,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(places, [one.subject for one in cells], fontsize=7)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    scale = " (log)" if wide else ""
    axes.set_title(row["title"] + scale, fontsize=8.5, loc="left", fontweight="bold")


def bars(plot: Any, run: Record, rows: list[Record], path: Path) -> list[str]:
    rows = [row for row in rows if Cell(row, REFERENCE).value is not None]
    if not rows:
        return []
    subjects = competitors(run)
    lines = -(-len(rows) // COLUMNS)
    figure, grid = plot.subplots(
        lines, COLUMNS, figsize=(13, 0.4 + 1.75 * lines), squeeze=False
    )
    panels = grid.flatten()
    for axes, row in zip(panels, rows, strict=False):
        panel(axes, row, subjects)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    python = run["machine"]["python"]
    figure.suptitle(
        f"Speed beside {REFERENCE}'s: longer is faster.  Python {python}, "
        f"{run['date']}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    return [store(plot, figure, path)]


# --- lines ----------------------------------------------------------------------------


def stem(row: Record) -> str:
    """What the rows of one thing that grows have in common."""
    return str(row["name"]).rpartition("_")[0]


def growth(plot: Any, run: Record, path: Path) -> list[str]:
    """The time of an operation against the size, for each thing that grows."""
    groups: dict[str, list[Record]] = {}
    for row in run["rows"]:
        if row["size"] is not None:
            groups.setdefault(stem(row), []).append(row)
    if not groups:
        return []
    figure, grid = plot.subplots(1, len(groups), figsize=(13, 3.2), squeeze=False)
    for axes, rows in zip(grid.flatten(), groups.values(), strict=True):
        for subject in run["subjects"]:
            points = [
                (row["size"], 1e6 / value)
                for row in rows
                if (value := Cell(row, subject).value)
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=COLOURS[subject],
                    label=subject,
                    marker="o",
                    markersize=2.5,
                    linewidth=2 if subject.startswith("fastloop") else 1,
                    linestyle="--" if subject == FLOOR else "-",
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}")
        axes.tick_params(axis="y", which="both", labelsize=6)
        title = rows[-1]["title"].replace(f"{rows[-1]['size']:,}", "n")
        axes.set_title(title, fontsize=8.5, loc="left", fontweight="bold")
        axes.set_xlabel("n")
        axes.set_ylabel("µs")
        axes.grid(True, linewidth=0.3)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=7)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return [store(plot, figure, path)]


def draw(runs: dict[str, Any], folder: Path) -> Sequence[str]:
    """Draw all pictures; return the names of their files.

    The README's, `benchmarks.svg`, is that of the newest Python which most libraries
    are there for.
    """
    plot = plotting()
    if plot is None or not runs:
        return []
    names: list[str] = []
    chosen = max(runs, key=lambda version: len(runs[version]["subjects"]))
    for version, run in runs.items():
        rows = [row for row in run["rows"] if row["size"] is None]
        if version == chosen:
            headlines = [row for row in rows if row["headline"]]
            names += bars(plot, run, headlines, folder / "benchmarks.svg")
        names += bars(plot, run, rows, folder / f"benchmarks-{version}.svg")
        names += growth(plot, run, folder / f"benchmarks-growth-{version}.svg")
    return names
