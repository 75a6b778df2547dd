"""What `manage.py apply --prune` takes away, and what it leaves."""

from __future__ import annotations

from typing import Any

from billing.models import Budget, Price
from providers.models import ApprovalState, Deployment, TenantApproval
from providers.services import decide_approval
from tenants.models import ApiKey, Project
from tests.configuration.conftest import SMALL, Apply, nothing


def test_prune_takes_away_what_is_not_named(apply: Apply) -> None:
    apply(SMALL)
    report = apply(
        """
        providers: [{name: other, kind: mock}]
        models: [{name: small, capabilities: [chat, stream], deployments: [{provider: other, upstream_model: small}]}]
        groups: []
        agent_types: {}
        tenants: [{name: acme, approved: [], keys: []}]
        """,
        prune=True,
    )
    assert set(report["pruned"]) == {
        "approval of small for acme: deleted",
        "approval of any for acme: deleted",
        "key acme/ci: revoked",
        "agent type tester: deleted",
        "group any: deleted",
        "deployment small at vendor as small-1: deleted",
        "model large: retired",
        "provider vendor: disabled",
    }
    assert ApiKey.objects.get().revoked_at is not None
    assert Project.objects.get().name == "web"
    assert [deployment.provider.name for deployment in Deployment.objects.filter(model__name="small")] == ["other"]
    assert Price.objects.get(model__name="small").usd_per_million()["input"] == "0.15"


def test_prune_suspends_tenants_and_takes_members_out(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["groups"][0]["members"] = ["large"]
    small["tenants"] = []
    report = apply(small, prune=True)
    assert report["pruned"] == ["tenant acme: suspended", "member small of group any: deleted"]
    assert ApiKey.objects.get().revoked_at is None
    assert nothing(apply(small, prune=True))


def test_prune_leaves_sections_alone_that_the_file_does_not_have(apply: Apply) -> None:
    apply(SMALL)
    assert nothing(apply("agent_types: {tester: any}", prune=True))


def test_prune_keeps_what_operators_refused(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    decide_approval(TenantApproval.objects.get(model__name="small"), ApprovalState.REJECTED, by=None)
    small["tenants"][0]["approved"] = ["any"]
    assert nothing(apply(small, prune=True))


def test_prune_switches_budgets_off_and_keeps_what_they_counted(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["tenants"][0]["budgets"] = [{"scope": "key", "subject": "ci", "period": "day", "limit_usd": "1"}]
    report = apply(small, prune=True)
    assert report["created"] == ["budget of acme, key ci, day"]
    assert report["pruned"] == ["budget of acme, tenant, month: disabled"]
    assert Budget.objects.filter(enabled=False).get().scope == "tenant"
    assert nothing(apply(small, prune=True))
    del small["tenants"][0]["budgets"]
    assert nothing(apply(small, prune=True)), "a tenant whose budgets the file does not speak of keeps them"
    assert apply(SMALL)["changed"] == ["budget of acme, tenant, month: enabled"]
