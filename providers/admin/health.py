"""How providers and their deployments are doing, beside what operators set: the last probes, and the breakers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.http import HttpRequest
from unfold.decorators import display

from providers.breakers import Board, read_board
from providers.models import Deployment, ProbeStatus, Provider, ProviderHealth
from tenants.operator_admin import ReadOnlyInline, utc

COLOURS = {ProbeStatus.OK: "success", ProbeStatus.FAILING: "danger", ProbeStatus.UNKNOWN: "info"}


class BoardChangeList(ChangeList):
    """A list whose rows know the breakers: they are read once for the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        board = read_board()
        for row in self.result_list:
            row.board = board


class ProviderChangeList(BoardChangeList):
    """The list of providers, with what their columns need."""

    def get_queryset(self, request: HttpRequest, *args: Any) -> models.QuerySet[Provider]:
        deployments = models.Prefetch("deployments", Deployment.objects.filter(enabled=True).select_related("model"))
        rows: models.QuerySet[Provider] = super().get_queryset(request, *args)
        return rows.prefetch_related("health", "credentials", deployments)


def troubles(board: Board, provider: Provider) -> str:
    """Which of a provider's deployments are not asked at the moment, and why; rows prefetched."""
    if not board.is_known:
        return "not known"
    found = [
        f"{deployment.model.name} {board.describe(deployment.pk)}"
        for deployment in provider.deployments.all()
        if board.describe(deployment.pk) != "closed"
    ]
    found += [f"{row.name} was refused" for row in provider.credentials.all() if row.enabled and board.refuses(row)]
    return "; ".join(found) or "all closed"


class HealthInline(ReadOnlyInline):
    """The last probe with each credential."""

    model = ProviderHealth
    fields = (
        "credential_name", "show_status", utc("checked_at", "Checked"), "latency_ms", "average_latency_ms",
        "failures_in_a_row", "last_error", utc("last_error_at", "Last error"),
    )  # fmt: skip
    readonly_fields = fields
    verbose_name_plural = "last probes"

    @display(description="Credential")
    def credential_name(self, health: ProviderHealth) -> str:
        return health.credential.name if health.credential else "none"

    @display(description="Status", label=COLOURS)
    def show_status(self, health: ProviderHealth) -> tuple[str, str]:
        return health.status, health.get_status_display()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ProviderHealth]:
        rows: models.QuerySet[ProviderHealth] = super().get_queryset(request).select_related("provider", "credential")
        return rows


class DeployedInline(ReadOnlyInline):
    """A provider's deployments, and whether each is asked at the moment."""

    model = Deployment
    fields = ("model", "upstream_model", "credential_name", "enabled", "show_breaker")
    readonly_fields = fields
    show_change_link = True

    @cached_property
    def board(self) -> Board:
        """Read once: an inline lives as long as its page."""
        return read_board()

    @display(description="Credential")
    def credential_name(self, deployment: Deployment) -> str:
        return deployment.credential.name if deployment.credential else "the provider's first"

    @display(description="Breaker")
    def show_breaker(self, deployment: Deployment) -> str:
        credential = deployment.credential
        refused = ", credential refused" if credential and self.board.refuses(credential) else ""
        return self.board.describe(deployment.pk) + refused

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Deployment]:
        rows: models.QuerySet[Deployment] = (
            super().get_queryset(request).select_related("provider", "credential", "model")
        )
        return rows
