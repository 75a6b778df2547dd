"""Writes the figures into docs/performance.md, between two markers; the prose around them is written by hand."""

from pathlib import Path

from bench.errors import BenchError

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
START = "<!-- bench: figures start; `make bench` writes what follows -->"
END = "<!-- bench: figures end -->"


def replace_figures(text: str, figures: str) -> str:
    """`text` with everything between the markers replaced. Raises BenchError when a marker is missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise BenchError(f"{DOCUMENT.name} must contain the two lines {START!r} and {END!r}.")
    return f"{before}{START}\n\n{figures.strip()}\n\n{END}{after}"


def write_figures(figures: str) -> None:
    """Replace the figures in docs/performance.md."""
    DOCUMENT.write_text(replace_figures(DOCUMENT.read_text(), figures))
