"""Admin pages for what a public price list proposes: approve it, or refuse it for good."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.errors import PriceError
from billing.models import PriceProposal, ProposalState
from billing.price_imports import approve_proposal, reject_proposal
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, number, operator_action, password_again, utc

SHOWN_CHANGES = 3


def _is_open(proposal: PriceProposal) -> bool:
    return proposal.state == ProposalState.OPEN


@admin.register(PriceProposal)
class PriceProposalAdmin(OperatorModelAdmin):
    """Proposals come from `import_prices --apply`. Approving one sets a price from now on."""

    list_display = ("model", "source", utc("created_at", "Proposed"), "show_state", "changes", "decided_by")
    list_select_related = ("model", "decided_by")
    list_filter = (("state", ChoicesDropdownFilter), ("model", AutocompleteSelectFilter))
    search_fields = ("model__name", "source")
    object_actions = ("approve", "reject")
    fields = (
        "model", "source", "source_version", "state", "diff_table", utc("created_at", "Proposed"), "decided_by",
        utc("decided_at", "Decided"), "price",
    )  # fmt: skip
    readonly_fields = fields
    empty_hint = "Run manage.py import_prices --apply: what differs from public prices is listed here to decide on."

    @display(
        description="State",
        ordering="state",
        label={
            ProposalState.OPEN: "info",
            ProposalState.APPROVED: "success",
            ProposalState.REJECTED: "danger",
            ProposalState.SUPERSEDED: "warning",
        },
    )
    def show_state(self, proposal: PriceProposal) -> tuple[str, str]:
        return proposal.state, proposal.get_state_display()

    @display(description="Changes, USD/M")
    def changes(self, proposal: PriceProposal) -> str:
        shown = [
            f"{change['unit']} {change['ours'] or 'none'} → {change['theirs']}"
            for change in proposal.diff[:SHOWN_CHANGES]
        ]
        more = len(proposal.diff) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    @display(description="Changes, USD per million units")
    def diff_table(self, proposal: PriceProposal) -> SafeString:
        words = ("Charged at", "Unit", number("Ours"), number("Theirs"), number("Change"), "")
        head = format_html_join("", "<th>{}</th>", ((word,) for word in words))
        rows = format_html_join(
            "",
            "<tr><td>{}</td><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    change["tier"] or "base prices",
                    change["unit"],
                    number(change["ours"] or "-"),
                    number(change["theirs"]),
                    number(f"{change['percent']} %" if change["percent"] else "new"),
                    "more than ten times: look twice" if change["suspicious"] else "",
                )
                for change in proposal.diff
            ),
        )
        return format_html('<table class="rates"><tr class="head">{}</tr>{}</table>', head, rows)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Nothing here is edited, only decided: no Save."""
        hidden = dict.fromkeys(("show_save", "show_save_and_continue", "show_save_and_add_another"), False)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **hidden})

    @password_again
    @operator_action(
        label="Approve",
        done="Approved",
        refusals=(PriceError,),
        offered=_is_open,
    )
    def approve(self, proposal: PriceProposal, *, by: Operator, reason: str) -> None:
        approve_proposal(proposal, by=by)

    @operator_action(
        label="Reject",
        done="Rejected",
        question="These figures are not proposed again. Other figures are.",
        refusals=(PriceError,),
        offered=_is_open,
    )
    def reject(self, proposal: PriceProposal, *, by: Operator, reason: str) -> None:
        reject_proposal(proposal, by=by)
