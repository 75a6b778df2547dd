"""Charts from plain figures: what is drawn, what is said, and what is read in the table."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from decimal import Decimal
from pathlib import Path

import pytest

import gateway
from gateway.desk.charts import lines, progress, sparkline, stacked_bars
from gateway.desk.scales import axis_of, full, short

STYLES = Path(gateway.__file__).parent / "static/bursar/desk.css"
DAYS = ["11-19", "11-20", "11-21"]
MODELS = {f"model-{number}": [number, 0, 10 * number] for number in range(1, 10)}


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def texts(chart: str, path: str) -> list[str]:
    return ["".join(element.itertext()) for element in parsed(chart).findall(path)]


@pytest.mark.parametrize(
    ("figures", "ticks"),
    [
        ([], (0, 1)),
        ([0, 0], (0, 1)),
        ([1], (0, 1)),
        ([3], (0, 1, 2, 3)),
        ([7], (0, 2, 4, 6, 8)),
        ([334], (0, 100, 200, 300, 400)),
        ([-5, 10], (-5, 0, 5, 10)),
        ([Decimal("0.03")], (0, Decimal("0.01"), Decimal("0.02"), Decimal("0.03"))),
        ([1_234_567_890_123], (0, 500_000_000_000, 1_000_000_000_000, 1_500_000_000_000)),
    ],
)
def test_an_axis_is_round_and_holds_zero_and_every_figure(figures: list[int], ticks: tuple[int, ...]) -> None:
    assert axis_of(figures).ticks == ticks


def test_figures_are_short_on_an_axis_and_whole_in_a_table() -> None:
    assert [short(figure) for figure in (0, 950, 1500, -2_000_000, Decimal("0.05"))] == [
        "0",
        "950",
        "1.5k",
        "-2M",
        "0.05",
    ]
    assert [full(figure) for figure in (1234567, Decimal("1234.50"), Decimal("1E-9"))] == [
        "1,234,567", "1,234.5", "0.000000001",
    ]  # fmt: skip


def test_bars_draw_the_six_greatest_and_what_the_others_add_up_to() -> None:
    chart = stacked_bars("Requests by model", DAYS, series=MODELS, unit="requests")
    assert texts(chart, ".//thead//th") == [f"model-{number}" for number in (9, 8, 7, 6, 5, 4)] + ["Other"]
    assert texts(chart, ".//tbody/tr[3]/td") == ["90", "80", "70", "60", "50", "40", "60"]
    assert texts(chart, ".//tbody/tr/th") == DAYS
    assert len(parsed(chart).findall(".//svg/path[@class='fill-other']")) == 2, "the bars and the legend"
    (picture,) = [svg for svg in parsed(chart).iter("svg") if svg.get("role") == "img"]
    assert picture.get("aria-label").startswith("Requests by model: 495 requests in all. model-9 99 requests;")
    assert texts(chart, ".//rect/title")[1] == "11-20\nno data"


def test_what_is_other_already_comes_last_whatever_its_size() -> None:
    series = {"Other": [50], **{f"m{number}": [number] for number in range(7)}}
    chart = stacked_bars("Cost", ["today"], series=series, unit="USD")
    assert texts(chart, ".//thead//th") == [*(f"m{number}" for number in (6, 5, 4, 3, 2, 1)), "Other"]
    assert texts(chart, ".//tbody/tr/td")[-1] == "50"


def test_credits_hang_below_zero() -> None:
    chart = stacked_bars("Cost", ["a", "b"], series={"x": [Decimal(4), Decimal(-2)]}, unit="USD")
    assert texts(chart, ".//div[@class='chart-y']/span") == ["4", "2", "0", "-2"]
    (path,) = parsed(chart).findall(".//div/svg/path[@class='fill-0']")
    assert re.findall(r"M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)", path.get("d")) == [("133.3", "0.0"), ("133.3", "200.0")]


def test_lines_have_a_gap_where_nothing_is_known() -> None:
    chart = lines("Latency", ["a", "b", "c", "d"], series={"p95": [10, None, 30, 20]}, unit="ms")
    (path,) = parsed(chart).findall(".//div/svg/path[@class='line line-0']")
    assert path.get("d") == "M119.0 133.3h12M625.0 0.0L875.0 66.7", "a point alone is a short line"
    assert texts(chart, ".//tbody//td") == ["10", "no data", "30", "20"]


def test_lines_are_never_added_up() -> None:
    chart = lines("Error rate", DAYS, series=MODELS, unit="%")
    assert texts(chart, ".//thead//th") == [f"model-{number}" for number in (9, 8, 7, 6, 5, 4)]
    assert "3 more are not drawn" in chart


@pytest.mark.parametrize("draw", [stacked_bars, lines])
def test_without_figures_it_says_so(draw: object) -> None:
    for series in ({}, {"a": []}):
        chart = draw("Requests", [], series=series, unit="requests")
        assert "Nothing to draw" in chart
        assert "<svg" not in chart


@pytest.mark.parametrize("draw", [stacked_bars, lines])
def test_figures_that_do_not_fit_the_labels_are_refused(draw: object) -> None:
    with pytest.raises(ValueError, match="'a' has 2 figures for 3 labels"):
        draw("Requests", DAYS, series={"a": [1, 2]}, unit="requests")


def test_names_are_written_as_text() -> None:
    hostile = '"><script>alert(1)</script>'
    for chart in (
        stacked_bars(hostile, [hostile], series={hostile: [1]}, unit=hostile),
        lines(hostile, [hostile], series={hostile: [1]}, unit=hostile),
        sparkline(hostile, [1, 2], unit=hostile),
        progress(hostile, {hostile: 1}, of=2, unit=hostile),
    ):
        assert not [element for element in parsed(chart).iter() if element.tag == "script"]
        assert "<script>" not in chart


def test_a_sparkline_says_where_it_begins_and_ends() -> None:
    chart = sparkline("Requests, 7 days", [3, None, 9, 1, 4], unit="requests")
    assert parsed(chart).get("aria-label") == "Requests, 7 days: first 3, last 4, least 1, greatest 9 requests"
    assert "no data" in sparkline("Requests", [None], unit="requests")


def test_progress_says_what_is_left_and_what_is_over() -> None:
    chart = progress("Budget", {"Spent": Decimal(30), "Reserved": Decimal(20)}, of=Decimal(100), unit="USD")
    assert [rect.get("width") for rect in parsed(chart).iter("rect")] == ["300.0", "200.0"]
    assert "Spent 30, Reserved 20, left 50 of 100 USD" in chart
    over = progress("Budget", {"Spent": 150}, of=100, unit="USD")
    assert "50 over the limit of 100" in over
    assert "progress-bar full" in over
    assert "no limit here" in progress("Budget", {"Spent": 1}, of=None, unit="USD")
    assert "left 0 of 0" in progress("Budget", {"Spent": 0}, of=0, unit="USD")


# Colours ------------------------------------------------------------------------------------------------------------
BACKGROUNDS = {"light": (255, 255, 255), "dark": (17, 24, 39)}
SEEN_AS = {
    "everybody": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
}
"""How linear red, green and blue are seen (Machado, Oliveira and Fernandes, 2009)."""


def colours(theme: str) -> list[tuple[int, ...]]:
    light, dark = re.findall(r"--series-0.*?}", STYLES.read_text(), re.DOTALL)[:2]
    return [
        tuple(bytes.fromhex(value))
        for value in re.findall(r"--series-\w+: #(\w{6})", light if theme == "light" else dark)
    ]


def linear(colour: tuple[int, ...]) -> list[float]:
    return [part / 12.92 if (part := value / 255) <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for value in colour]


def luminance(colour: tuple[int, ...]) -> float:
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def lab(rgb: list[float]) -> tuple[float, ...]:
    """Where a linear colour is in CIE Lab, in which distances are as they are seen."""
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    x, y, z = (sum(factor * part for factor, part in zip(row, rgb, strict=True)) for row in to_xyz)
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x / 0.9505, y, z / 1.089)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


@pytest.mark.parametrize("theme", BACKGROUNDS)
def test_every_colour_stands_out_from_the_page(theme: str) -> None:
    assert len(colours(theme)) == 7
    for colour in colours(theme):
        low, high = sorted((luminance(colour), luminance(BACKGROUNDS[theme])))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


@pytest.mark.parametrize("eyes", SEEN_AS)
@pytest.mark.parametrize("theme", BACKGROUNDS)
def test_neighbours_are_told_apart_by_all_eyes(theme: str, eyes: str) -> None:
    seen = [
        lab([max(0.0, sum(f * p for f, p in zip(row, linear(colour), strict=True))) for row in SEEN_AS[eyes]])
        for colour in colours(theme)
    ]
    for first, second in itertools.pairwise(seen):
        assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5 > 20, (first, second)
