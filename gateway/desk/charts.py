"""Charts as SVG drawn by the server: no script, no third party, and the figures beside them in a table.

Each chart is a `<figure>`: a picture with a label that says what is seen, a legend, and the figures under "Figures".
Shapes are stretched to the width there is and words are not, so that both are legible on a telephone. Colours come
from `bursar/desk.css` by a series' place; a line has a dash of its own besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from gateway.desk.scales import Axis, Number, axis_of, full, short

Figures = Sequence[Number | None]
"""One for each label; None where nothing is known."""

TOP = 6
"""So many series are drawn, the greatest first."""
OTHER = "Other"
WIDTH, HEIGHT = 1000, 200
ALONE = 6
"""Half the width of a point without neighbours: no line would show it."""
X_LABELS = 4
NOTHING = "no data"


def stacked_bars(title: str, labels: Sequence[str], *, series: Mapping[str, Figures], unit: str) -> SafeString:
    """A bar for each label, made of the six greatest series and the sum of the others; what is below zero hangs down.

    Raises ValueError where a series has not one figure for each label.
    """
    drawn = _fold(labels, series)
    if not _has_figures(drawn):
        return _empty(title)
    heights = [_stack(drawn, place) for place in range(len(labels))]
    axis = axis_of([figure for stack in heights for pair in stack.values() for figure in pair])
    bars = format_html_join(
        "",
        '<path class="fill-{}" d="{}"/>',
        ((_place(name, at), _bars_path(name, heights, axis=axis)) for at, name in enumerate(drawn)),
    )
    sums = {name: sum(figure for figure in figures if figure is not None) for name, figures in drawn.items()}
    total = f"{full(sum(sums.values()))} {unit} in all"
    said = f"{title}: {total}. {_greatest(sums, unit)}"
    return _figure(
        title,
        plot=_plot(said, labels, axis=axis, shapes=bars + _hovers(labels, drawn)),
        after=_legend(sums, swatch="fill-{}") + _table(title, labels, drawn=drawn, unit=unit),
        remark=total,
    )


def lines(title: str, labels: Sequence[str], *, series: Mapping[str, Figures], unit: str) -> SafeString:
    """A line for each of the six series that rise highest, with a gap where nothing is known.

    Lines are not added up: of more than six the rest is counted, not drawn. Raises ValueError as `stacked_bars` does.
    """
    _check(labels, series)
    known = {name: [figure for figure in figures if figure is not None] for name, figures in series.items()}
    ranked = sorted((name for name in series if known[name]), key=lambda name: (-max(known[name]), name))
    drawn = {name: series[name] for name in ranked[:TOP]}
    if not drawn:
        return _empty(title)
    axis = axis_of([figure for name in drawn for figure in known[name]])
    paths = format_html_join(
        "",
        '<path class="line line-{}" d="{}"/>',
        ((at, _line_path(figures, axis)) for at, figures in enumerate(drawn.values())),
    )
    highest = {name: max(known[name]) for name in drawn}
    more = len(ranked) - len(drawn)
    remark = f"highest of each beside its name{f'; {more} more are not drawn' if more else ''}"
    said = f"{title}, {unit}, from {labels[0]} to {labels[-1]}. " + "; ".join(
        f"{name} at most {full(figure)} {unit}" for name, figure in highest.items()
    )
    return _figure(
        title,
        plot=_plot(said, labels, axis=axis, shapes=paths + _hovers(labels, drawn)),
        after=_legend(highest, swatch="line line-{}") + _table(title, labels, drawn=drawn, unit=unit),
        remark=remark,
    )


def sparkline(title: str, figures: Figures, *, unit: str) -> SafeString:
    """A line the height of a word, for a table's cell; its label says the first, last, least and greatest figure."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return format_html('<span class="remark">{}</span>', NOTHING)
    said = (
        f"{title}: first {full(known[0])}, last {full(known[-1])}, "
        f"least {full(min(known))}, greatest {full(max(known))} {unit}"
    )
    return format_html(
        '<svg class="sparkline" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" preserveAspectRatio="none">'
        '<title>{0}</title><path class="line line-0" d="{3}"/></svg>',
        said, WIDTH, HEIGHT, _line_path(figures, axis_of(known)),
    )  # fmt: skip


def progress(title: str, parts: Mapping[str, Number], *, of: Number | None, unit: str) -> SafeString:
    """How much of a limit is taken, and by what, such as spent and reserved; what is beyond the limit is drawn as such.

    Without a limit (`of` is None) there is only what is taken.
    """
    taken = sum(parts.values())
    figures = dict(parts)
    said = [f"{name} {full(figure)}" for name, figure in parts.items()]
    if of is None:
        said.append("no limit here")
    else:
        left = of - taken
        said.append(f"left {full(left)} of {full(of)}" if left >= 0 else f"{full(-left)} over the limit of {full(of)}")
        figures["Left" if left >= 0 else "Over"] = max(left, -left)
    whole = max(taken, of or 0) or 1
    label = f"{title}: {', '.join(said)} {unit}"
    bars, at = [], 0.0
    for place, (name, figure) in enumerate(parts.items()):
        width = WIDTH * float(max(figure, 0)) / float(whole)
        said_of_part = f"{name}: {full(figure)} {unit}"
        bars.append((place, f"{at:.1f}", f"{width:.1f}", said_of_part))
        at += width
    drawn = format_html_join(
        "", '<rect class="fill-{}" x="{}" y="0" width="{}" height="20"><title>{}</title></rect>', bars
    )
    full_class = " full" if of is not None and taken >= of else ""
    picture = format_html(
        '<svg class="progress-bar{}" role="img" aria-label="{}" viewBox="0 0 {} 20" preserveAspectRatio="none">'
        "{}</svg>",
        full_class, label, WIDTH, drawn,
    )  # fmt: skip
    rows = {name: [figure] for name, figure in figures.items()}
    table = _table(title, [f"of {full(of)}" if of is not None else "no limit"], drawn=rows, unit=unit)
    return _figure(title, plot=picture, after=table, remark=f"{', '.join(said)} {unit}")


# What is drawn ------------------------------------------------------------------------------------------------------
def _check(labels: Sequence[str], series: Mapping[str, Figures]) -> None:
    for name, figures in series.items():
        if len(figures) != len(labels):
            raise ValueError(f"{name!r} has {len(figures)} figures for {len(labels)} labels.")


def _fold(labels: Sequence[str], series: Mapping[str, Figures]) -> dict[str, Figures]:
    """The greatest series, and what the others add up to; "Other" is what the caller has added up already."""
    _check(labels, series)

    def size(name: str) -> tuple[Number, str]:
        return -sum(max(figure, -figure) for figure in series[name] if figure is not None), name

    ranked = sorted((name for name in series if name != OTHER), key=size)
    drawn: dict[str, Figures] = {name: series[name] for name in ranked[:TOP]}
    if rest := [*ranked[TOP:], *([OTHER] if OTHER in series else [])]:
        columns = zip(*(series[name] for name in rest), strict=True)
        drawn[OTHER] = [sum(figure for figure in column if figure is not None) for column in columns]
    return drawn


def _has_figures(series: Mapping[str, Figures]) -> bool:
    return any(figure for figures in series.values() for figure in figures)


def _place(name: str, at: int) -> int | str:
    """The colour of a series: that of its place, or the one of what is left over."""
    return "other" if name == OTHER else at


Span = tuple[Number, Number]


def _stack(drawn: Mapping[str, Figures], place: int) -> dict[str, Span]:
    """Where each series begins and ends in the bar at a place."""
    up: Number = 0
    down: Number = 0
    spans: dict[str, Span] = {}
    for name, figures in drawn.items():
        figure = figures[place] or 0
        if figure >= 0:
            spans[name] = (up, up + figure)
            up = spans[name][1]
        else:
            spans[name] = (down, down + figure)
            down = spans[name][1]
    return spans


def _bars_path(name: str, heights: Sequence[Mapping[str, Span]], *, axis: Axis) -> str:
    """All of a series' pieces as one path: a page of hours stays small."""
    wide = WIDTH / len(heights)
    gap = wide * 0.15
    pieces = []
    for place, stack in enumerate(heights):
        first, last = (_y(figure, axis) for figure in stack[name])
        if first != last:
            pieces.append(
                f"M{place * wide + gap / 2:.1f} {first:.1f}H{(place + 1) * wide - gap / 2:.1f}V{last:.1f}"
                f"H{place * wide + gap / 2:.1f}Z"
            )
    return "".join(pieces)


def _line_path(figures: Figures, axis: Axis) -> str:
    wide = WIDTH / len(figures)
    pieces = []
    for place, figure in enumerate(figures):
        if figure is None:
            continue
        x, y = (place + 0.5) * wide, _y(figure, axis)
        is_first = place == 0 or figures[place - 1] is None
        if is_first and (place + 1 == len(figures) or figures[place + 1] is None):
            pieces.append(f"M{x - ALONE:.1f} {y:.1f}h{2 * ALONE}")
        else:
            pieces.append(f"{'M' if is_first else 'L'}{x:.1f} {y:.1f}")
    return "".join(pieces)


def _y(figure: Number, axis: Axis) -> float:
    return HEIGHT * (1 - axis.share(figure))


def _hovers(labels: Sequence[str], drawn: Mapping[str, Figures]) -> SafeString:
    """A column for each label which names it and its figures to whoever points at it."""
    wide = WIDTH / len(labels)
    columns = []
    for place, label in enumerate(labels):
        told = [f"{name}: {_shown(figures[place])}" for name, figures in drawn.items() if figures[place]]
        columns.append((f"{place * wide:.1f}", f"{wide:.1f}", HEIGHT, "\n".join([label, *(told or [NOTHING])])))
    return format_html_join(
        "", '<rect class="hover" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>', columns
    )


# What is written around it ------------------------------------------------------------------------------------------
def _plot(label: str, labels: Sequence[str], *, axis: Axis, shapes: SafeString) -> SafeString:
    grid = format_html_join(
        "",
        '<path class="{}" d="M0 {}H{}"/>',
        (("zero" if tick == 0 else "grid", f"{_y(tick, axis):.1f}", WIDTH) for tick in axis.ticks),
    )
    return format_html(
        '<div class="chart-plot"><div class="chart-y" aria-hidden="true">{}</div>'
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}{}</svg>'
        '<div class="chart-x" aria-hidden="true">{}</div></div>',
        format_html_join("", "<span>{}</span>", ((short(tick),) for tick in reversed(axis.ticks))),
        label, WIDTH, HEIGHT, grid, shapes,
        format_html_join("", "<span>{}</span>", ((word,) for word in _some(labels))),
    )  # fmt: skip


def _some(labels: Sequence[str]) -> list[str]:
    """The first label, the last, and some between at even distances."""
    if len(labels) <= X_LABELS:
        return list(labels)
    return [labels[place * (len(labels) - 1) // (X_LABELS - 1)] for place in range(X_LABELS)]


def _figure(title: str, *, plot: SafeString, after: SafeString, remark: str) -> SafeString:
    return format_html(
        '<figure class="desk-chart"><figcaption>{} <span class="remark">{}</span></figcaption>{}{}</figure>',
        title, remark, plot, after,
    )  # fmt: skip


def _empty(title: str) -> SafeString:
    return format_html(
        '<figure class="desk-chart"><figcaption>{}</figcaption><p class="remark">Nothing to draw in this time.</p>'
        "</figure>",
        title,
    )


def _greatest(sums: Mapping[str, Number], unit: str) -> str:
    return "; ".join(f"{name} {full(figure)} {unit}" for name, figure in sums.items())


def _legend(figures: Mapping[str, Number], *, swatch: str) -> SafeString:
    entries = (
        (swatch.format(_place(name, at)), name, full(figure)) for at, (name, figure) in enumerate(figures.items())
    )
    return format_html(
        '<ul class="chart-legend">{}</ul>',
        format_html_join(
            "",
            '<li><svg class="swatch" aria-hidden="true" viewBox="0 0 24 12"><path class="{0}" d="{3}"/></svg>'
            '<span>{1}</span> <span class="figure">{2}</span></li>',
            ((*entry, "M0 6H24" if swatch.startswith("line") else "M0 0H24V12H0Z") for entry in entries),
        ),
    )


def _table(title: str, labels: Sequence[str], *, drawn: Mapping[str, Figures], unit: str) -> SafeString:
    head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in drawn))
    body = mark_safe(  # noqa: S308 -- joined of safe strings
        "".join(
            format_html(
                '<tr><th scope="row">{}</th>{}</tr>',
                label,
                format_html_join("", "<td>{}</td>", ((_shown(figures[place]),) for figures in drawn.values())),
            )
            for place, label in enumerate(labels)
        )
    )
    return format_html(
        '<details class="chart-figures"><summary>Figures</summary><div class="chart-scroll" tabindex="0" role="region" '
        'aria-label="{0}, figures"><table><caption>{0}, {1}</caption><thead><tr><td></td>{2}</tr></thead>'
        "<tbody>{3}</tbody></table></div></details>",
        title, unit, head, body,
    )  # fmt: skip


def _shown(figure: Number | None) -> str:
    return NOTHING if figure is None else full(figure)
