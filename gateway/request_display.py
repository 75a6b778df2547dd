"""The parts of a request's admin page that say what happened: its timeline, and what hooks said of it."""

from __future__ import annotations

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from gateway.models import RequestRecord
from gateway.request_records import AttemptStory, RequestStory

NOTHING = SafeString("")
NO_ATTEMPT = "No provider was asked."
LEAST_WIDTH = 0.5
"""Per cent: what took no time is still to be seen."""


def timeline_of(row: RequestRecord, story: RequestStory) -> SafeString:
    """A bar for the whole request and one for each attempt, on one scale of time."""
    whole = max(row.latency_ms, *(_end_ms(attempt) for attempt in story.attempts), 1)
    head = _line(
        format_html("<strong>{}</strong>", "The request"),
        bar=_bar(0, row.latency_ms, whole=whole, kind="whole", mark=row.first_content_ms),
        words=_waits(row),
    )
    attempts = [
        _line(
            _name(attempt),
            bar=_bar(_start_ms(attempt), _end_ms(attempt), whole=whole, kind=_kind(attempt)),
            words=_outcome(attempt),
        )
        for attempt in story.attempts
    ]
    if not attempts:
        attempts = [_line(NO_ATTEMPT, bar=NOTHING, words=NOTHING)]
    lines = format_html_join("", "{}", ((line,) for line in [head, *attempts]))
    return format_html('<table class="timeline">{}</table>', lines)


def _line(name: SafeString | str, *, bar: SafeString, words: SafeString) -> SafeString:
    return format_html("<tr><th>{}</th><td>{}</td><td>{}</td></tr>", name, bar, words)


def _waits(row: RequestRecord) -> SafeString:
    first = f", first content after {row.first_content_ms:,} ms" if row.first_content_ms is not None else ""
    return format_html(
        '{} ms<br><span class="remark">{} ms of them waiting for providers{}</span>',
        f"{row.latency_ms:,}",
        f"{row.upstream_ms:,}",
        first,
    )


def _bar(start_ms: int, end_ms: int, *, whole: int, kind: str, mark: int | None = None) -> SafeString:
    """A bar from one moment to another, and a stroke where the first content came."""
    left = 100 * start_ms / whole
    width = max(LEAST_WIDTH, 100 * (end_ms - start_ms) / whole)
    bar = format_html(
        '<rect class="{}" x="{}%" width="{}%" y="1" height="10" rx="2"/>',
        kind,
        f"{min(left, 100 - LEAST_WIDTH):.2f}",
        f"{min(width, 100):.2f}",
    )
    stroke = NOTHING
    if mark is not None:
        stroke = format_html('<rect class="mark" x="{}%" width="2" y="0" height="12"/>', f"{100 * mark / whole:.2f}")
    label = f"from {start_ms:,} ms to {end_ms:,} ms"
    return format_html('<svg role="img" aria-label="{}"><title>{}</title>{}{}</svg>', label, label, bar, stroke)


def _name(told: AttemptStory) -> SafeString:
    model = told.attempt.model_name if told.attempt else told.note["model"]
    provider = told.attempt.provider_name if told.attempt else told.note["provider"]
    if told.attempt is None:
        return format_html('{}<br><span class="remark">{}</span>', model, provider)
    url = reverse("admin:billing_attempt_change", args=[told.attempt_id])
    return format_html('<a href="{}">{}</a><br><span class="remark">{}</span>', url, model, provider)


def _outcome(told: AttemptStory) -> SafeString:
    said = str(told.note.get("outcome", "")).replace("_", " ")
    if told.charge is not None and said in ("", "under way"):  # it was still being heard out, or is not on the log
        said = told.charge.get_ending_display().lower()
    took = told.note.get("elapsed_ms")
    first = f"{said}, {took:,} ms" if took is not None else said
    return format_html('{}<br><span class="remark">{}</span>', first, told.note.get("message") or _state(told))


def _state(told: AttemptStory) -> str:
    if told.attempt is None:
        return "not yet in the ledger"
    failure = f": {told.attempt.failure.replace('_', ' ')}" if told.attempt.failure else ""
    return f"{told.attempt.get_state_display().lower()}{failure}"


def _kind(told: AttemptStory) -> str:
    if told.attempt is None or told.attempt.state == "open":
        return "open"
    return "answered" if told.note.get("outcome", "answered") == "answered" and told.charge else "failed"


def _start_ms(told: AttemptStory) -> int:
    return int(told.note.get("started_ms") or 0)


def _end_ms(told: AttemptStory) -> int:
    """When the answer was there; an attempt that was broken off has no end of its own on the log."""
    elapsed = told.note.get("elapsed_ms")
    if elapsed is None:
        elapsed = told.charge.latency_ms if told.charge else 0
    return _start_ms(told) + int(elapsed)


def verdicts_of(row: RequestRecord) -> SafeString:
    """What each hook said and which fields it changed. What stood in them is nowhere."""
    if not row.hooks:
        return format_html('<span class="remark">{}</span>', "No hook was asked.")
    lines = (
        (
            note["binding"],
            note["stage"],
            note["verdict"],
            note["problem"] or ", ".join(note["fields"]),
            note["elapsed_ms"],
        )
        for note in row.hooks
    )
    rows = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{} ms</td></tr>", lines)
    return format_html('<table class="standings">{}</table>', rows)
