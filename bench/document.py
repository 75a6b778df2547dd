"""Writes the figures into docs/performance.md, each part between two markers; the prose around them is by hand."""

import re
from pathlib import Path

from bench.errors import BenchError

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
FIGURES = "figures"
GOVERNED = "governed figures"
HOOKS = "hooks figures"


def replace_figures(text: str, figures: str, *, part: str = FIGURES) -> str:
    """`text` with everything between the part's markers replaced. Raises BenchError when one is missing."""
    between = re.compile(rf"(<!-- bench: {part} start;[^\n]* -->\n).*?(<!-- bench: {part} end -->)", re.DOTALL)
    replaced, count = between.subn(lambda found: f"{found[1]}\n{figures.strip()}\n\n{found[2]}", text)
    if count != 1:
        raise BenchError(
            f"{DOCUMENT.name} must contain one pair of lines `<!-- bench: {part} start; ... -->` and "
            f"`<!-- bench: {part} end -->`."
        )
    return replaced


def write_figures(figures: str, *, part: str = FIGURES) -> None:
    """Replace the figures of a part in docs/performance.md."""
    DOCUMENT.write_text(replace_figures(DOCUMENT.read_text(), figures, part=part))
