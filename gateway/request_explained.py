"""The parts of a request's page that say why: whom routing had, what each part cost, and what else was written down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing.explanations import explain, tier_words
from billing.models import StatementLine, UsageRecord
from billing.money import plain, usd
from gateway.models import MediaObject, RequestRecord
from gateway.request_costs import certainty_of, parts_of
from gateway.request_filters import ENDS, end_of
from gateway.request_records import RequestStory
from tenants.models import AuditEvent
from tenants.operator_admin import number

CHAINED_WITHIN = dt.timedelta(seconds=30)
"""Events come into their chain this soon after what they tell of, unless the database was away."""

REASONS_SHOWN = 3
EVENTS_SHOWN = 20
FILES_SHOWN = 20


class Candidate(NamedTuple):
    """One of those that routing looked at."""

    name: str
    verdict: str
    """chosen, tried, rejected or spared."""
    words: str


def sentence_of(row: RequestRecord, story: RequestStory) -> str:
    """The whole request in one sentence."""
    asked = row.requested_model or "no model"
    strategy = row.decision.get("strategy", "")
    asked += f" ({strategy.replace('_', ' ')})" if strategy else ""
    took = f"{row.latency_ms / 1000:.2f} s"
    if row.replay_of:
        return f"Asked for {asked}: the answer of {row.replay_of} was given again, in {took}, for nothing."
    if row.cache == "hit":
        return f"Asked for {asked}: the cache had the answer, in {took}."
    if not row.attempts:
        return (
            f"Asked for {asked}: {row.status} {row.error_code.replace('_', ' ')} after {took}; no provider was asked."
        )
    last = row.attempts[-1]
    tries = len(row.attempts)
    after = f" after {tries} attempts" if tries > 1 else ""
    outcome = "served by" if last["outcome"] == "answered" else "asked last was"
    cost = parts_of((told.charge for told in story.attempts if told.charge), adjusted_nano_usd=_adjusted(story))
    return f"Asked for {asked}, {outcome} {last['model']} at {last['provider']}{after}, {took}, USD {cost.as_text()}."


def end_words(row: RequestRecord) -> SafeString:
    """How it ended and, where nobody was asked, why: each reason once, and where a budget can be raised."""
    ended = f"{ENDS[end_of(row)][0]}: {row.status} {row.error_code}".strip()
    reasons = [] if row.attempts else list(dict.fromkeys(reason for _, reason in row.skipped))[:REASONS_SHOWN]
    lines = format_html_join("", '<br><span class="remark">{}</span>', ((reason,) for reason in reasons))
    if row.error_code != "budget_exceeded":
        return format_html("{}{}", ended, lines)
    url = reverse("admin:billing_budget_changelist")
    budgets = f"Budgets of {row.tenant.name}"
    return format_html(
        '{}{}<br><a class="link" href="{}?tenant__id__exact={}">{}</a>', ended, lines, url, row.tenant_id, budgets
    )


def _adjusted(story: RequestStory) -> int:
    return sum(told.adjusted_nano_usd for told in story.attempts)


def candidates_of(row: RequestRecord) -> list[Candidate]:
    """Everyone routing had: in its order, then whoever was out before that. Each has a word and a reason."""
    reasons: dict[str, str] = {}
    for name, reason in row.skipped:
        reasons[name] = f"{reasons[name]}; {reason}" if name in reasons else reason
    order = row.decision.get("order") or _order_by_attempts(row)
    found = []
    for deployment, model, provider in order:
        name = f"{model} at {provider}"
        outcomes = [note["outcome"] for note in row.attempts if note["deployment"] == deployment]
        if "answered" in outcomes:
            tries = f" at try {len(outcomes)}" if len(outcomes) > 1 else ""
            found.append(Candidate(name, "chosen", f"answered{tries}"))
        elif outcomes:
            found.append(Candidate(name, "tried", ", then ".join(said.replace("_", " ") for said in outcomes)))
        elif name in reasons:
            found.append(Candidate(name, "rejected", reasons[name]))
        else:
            found.append(Candidate(name, "spared", _why_spared(row)))
    ranked = {candidate.name for candidate in found}
    return found + [Candidate(name, "rejected", reason) for name, reason in reasons.items() if name not in ranked]


def _order_by_attempts(row: RequestRecord) -> list[tuple[int, str, str]]:
    """Of a request from before routing wrote its order down."""
    return list(dict.fromkeys((note["deployment"], note["model"], note["provider"]) for note in row.attempts))


def _why_spared(row: RequestRecord) -> str:
    if row.cache == "hit":
        return "the cache had the answer"
    if any(note["outcome"] == "answered" for note in row.attempts):
        return "one before it answered"
    if not row.attempts:
        return f"the request ended before anybody was asked: {row.error_code.replace('_', ' ') or end_of(row)}"
    return "the last failure was the answer, or as many as may be had been asked"


def candidates_table(row: RequestRecord) -> SafeString:
    """`candidates_of` as a table, with what the choice rested on."""
    found = candidates_of(row)
    if not found:
        return format_html(
            '<span class="remark">{}</span>', "Nobody: the request ended before routing had a candidate."
        )
    lines = format_html_join(
        "",
        '<tr><td class="figure">{}</td><th scope="row">{}</th><td><span class="verdict {}">{}</span></td>'
        "<td>{}</td></tr>",
        ((place, one.name, one.verdict, one.verdict, one.words) for place, one in enumerate(found, start=1)),
    )
    return format_html(
        '<table class="candidates"><thead><tr><th scope="col">#</th><th scope="col">Candidate</th>'
        '<th scope="col">Verdict</th><th scope="col">Why</th></tr></thead>{}</table><p class="remark">{}</p>',
        lines,
        _rested_on(row),
    )


def _rested_on(row: RequestRecord) -> str:
    decision = row.decision
    if not decision:
        return "What the choice rested on was not written down yet when this request was made."
    limit = decision.get("max_output_tokens")
    parts = [
        f"needed: {', '.join(decision.get('needs', [])) or 'nothing special'}",
        f"input: {decision.get('input_bytes', 0):,} bytes",
        f"answers asked for: {decision.get('choices', 1)}",
        f"its own limit: {limit:,} tokens" if limit else "no limit of its own",
    ]
    if decision.get("strategy"):
        parts.insert(0, f"strategy of {decision.get('name')}: {decision['strategy'].replace('_', ' ')}")
    return "; ".join(parts)


def cost_table(story: RequestStory) -> SafeString:
    """Each charge line by line, what was held for it, and three sums by how sure they are."""
    charged = [told for told in story.attempts if told.charge is not None]
    if not charged:
        return format_html('<span class="remark">{}</span>', "Nothing was charged.")
    parts = []
    for told in charged:
        charge = told.charge
        assert charge is not None
        held = told.attempt.reserved_nano_usd if told.attempt else None
        remark = f"{certainty_of(charge)}: {charge.get_usage_source_display().lower()}"
        remark += f"; {charge.get_ending_display().lower()}"
        if held is not None:
            remark += f"; held {usd(held)}, charged {usd(charge.cost_nano_usd)}"
            remark += f", given back {usd(held - charge.cost_nano_usd)}" if held >= charge.cost_nano_usd else ""
        if told.adjusted_nano_usd:
            remark += f"; {usd(told.adjusted_nano_usd)} of it adjusted"
        url = reverse("admin:billing_usagerecord_change", args=[charge.pk])
        cost = usd(told.cost_nano_usd) if charge.price_id else "no price"
        parts.append((url, charge.model_name, charge.provider_name, cost, remark, price_lines(charge)))
    body = format_html_join(
        "",
        '<div class="charge"><p><a href="{}">{} at {}</a> <strong>{}</strong> '
        '<span class="remark">{}</span></p>{}</div>',
        parts,
    )
    sums = parts_of((told.charge for told in charged if told.charge), adjusted_nano_usd=_adjusted(story))
    return format_html("{}<p><strong>USD {}</strong></p>", body, sums.as_text())


def price_lines(charge: UsageRecord) -> SafeString:
    """Quantity by price is amount, a line for each unit, then what they come to: to the last digit."""
    if charge.price is None:
        units = ", ".join(f"{count:,} {unit}" for unit, count in charge.units.items()) or "no units"
        return format_html('<span class="remark">{}: {}</span>', units, "no price, so its cost is unknown, not nothing")
    version = charge.price.version
    explained = explain(version, charge.units)
    lines = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td><td>at {} per million</td><td>{}</td></tr>',
        ((line.unit, number(f"{line.amount:,}"), line.rate, number(f"= {line.usd}")) for line in explained),
    )
    exact = sum((Decimal(line.usd) for line in explained), Decimal(0))
    rounding = Decimal(usd(charge.cost_nano_usd)) - exact
    total = (("rounded to a nano-USD", plain(rounding)),) if rounding else ()
    last = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td></td><td></td><td>{}</td></tr>',
        ((words, number(f"= {amount}")) for words, amount in total),
    )
    words = f"{tier_words(version, charge.units)}, price of {version.valid_from:%Y-%m-%d %H:%M} UTC"
    url = reverse("admin:billing_price_change", args=[charge.price.pk])
    return format_html(
        '<table class="rates" data-charged="{}">{}{}</table><a class="remark" href="{}">{}</a>',
        usd(charge.cost_nano_usd), lines, last, url, words,
    )  # fmt: skip


def statement_of(row: RequestRecord, story: RequestStory) -> SafeString | str:
    """The statement lines its charges are on. One query."""
    charge = next((told.charge for told in story.attempts if told.charge is not None), None)
    if charge is None:
        return "On no statement: nothing was charged."
    lines = StatementLine.objects.filter(
        statement__tenant_id=row.tenant_id, statement__kind="statement", statement__starts_at__lte=charge.created_at,
        statement__ends_at__gt=charge.created_at, model=charge.model_name, provider=charge.provider_name,
        user=charge.user, project=charge.project.name if charge.project else "",
    )  # fmt: skip
    line = lines.select_related("statement").order_by("-statement_id").first()
    if line is None:
        return "On no statement yet: its period is still open, or its statement has not been drafted."
    url = reverse("admin:billing_statement_change", args=[line.statement_id])
    return format_html(
        '<a class="link" href="{}">{}</a>, line {}: {} calls, USD {}',
        url, str(line.statement), line.position, f"{line.calls:,}", usd(line.cost_nano_usd),
    )  # fmt: skip


def events_of(row: RequestRecord) -> SafeString:
    """What the audit log says of it, first things first. One query, by tenant and time."""
    until = row.created_at + dt.timedelta(milliseconds=row.latency_ms) + CHAINED_WITHIN
    events = AuditEvent.objects.filter(
        tenant_id=row.tenant_id, object_type="request", object_id=row.request_id,
        created_at__gte=row.created_at - CHAINED_WITHIN, created_at__lte=until,
    ).order_by("created_at", "id")[:EVENTS_SHOWN]  # fmt: skip
    return _list_of(
        (
            (reverse("admin:tenants_auditevent_change", args=[event.pk]), event.event.replace("_", " "), _said(event))
            for event in events
        ),
        none="None: audit events of calls may be switched off, or its month was dropped.",
    )


def _said(event: AuditEvent) -> str:
    told = {name: value for name, value in event.details.items() if value not in (None, "", [], False)}
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in list(told.items())[:6])
    return f"#{event.sequence} at {event.happened_at:%H:%M:%S} by {event.actor}: {facts}"


def files_of(row: RequestRecord) -> SafeString:
    """Files that its key was given or sent while it ran. One query, by tenant and time."""
    until = row.created_at + dt.timedelta(milliseconds=row.latency_ms + 1000)
    files = MediaObject.objects.filter(
        tenant_id=row.tenant_id, api_key_id=row.api_key_id, created_at__gte=row.created_at, created_at__lte=until,
    ).order_by("created_at", "id")[:FILES_SHOWN]  # fmt: skip
    return _list_of(
        (
            (
                reverse("admin:gateway_mediaobject_change", args=[file.pk]),
                f"{file.kind}, {file.mime}",
                f"{file.source}, {file.size_bytes:,} bytes" + (", removed" if file.deleted_at else ""),
            )
            for file in files
        ),
        none="None was kept while it ran.",
    )


def _list_of(rows: Iterable[tuple[str, str, str]], *, none: str) -> SafeString:
    lines = format_html_join("", '<li><a class="link" href="{}">{}</a> <span class="remark">{}</span></li>', rows)
    if not lines:
        return format_html('<span class="remark">{}</span>', none)
    return format_html('<ul class="plain-list">{}</ul>', lines)
