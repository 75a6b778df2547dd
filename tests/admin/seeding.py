"""Rows behind the admin's pages: as many of each kind as asked for, all within the last hour."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Model as DjangoModel
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from billing.adjustments import adjust_charge
from billing.budgets import window_of
from billing.models import (
    Adjustment,
    Attempt,
    Budget,
    BudgetAlert,
    BudgetOverride,
    BudgetWindow,
    Markup,
    Price,
    PriceProposal,
    ReconciliationRow,
    ReconciliationRun,
    Statement,
    StatementLine,
    StatementSchedule,
    UsageRecord,
)
from billing.money import NANO_PER_USD
from billing.pricing import PriceVersion
from billing.services import read_rates, set_price
from gateway.media.records import Defaults, add_file
from gateway.media.storage import new_file_id
from gateway.models import (
    CacheDay,
    CacheRule,
    HookBinding,
    Job,
    JobEvent,
    MediaObject,
    RealtimeSession,
    RequestRecord,
    SchemaType,
    TenantStorage,
)
from providers.credentials import store_credential
from providers.models import (
    AgentType,
    Credential,
    Deployment,
    GroupMember,
    LifecycleChange,
    Model,
    ModelGroup,
    OfferedModel,
    Provider,
    ProviderHealth,
    TenantApproval,
)
from providers.services import propose_model
from tenants.audit import SYSTEM, record, subject_of
from tenants.models import (
    ApiKey,
    AuditChain,
    AuditEvent,
    Delivery,
    Membership,
    Notification,
    Operator,
    Project,
    RateLimit,
    Tenant,
    WebhookEndpoint,
)
from tenants.notifications import notify
from tenants.webhooks import create_endpoint
from tests.factories import make_key, make_model, make_provider, unique

SHOWN = (
    Operator, Tenant, Project, ApiKey, Provider, Credential, Model, Deployment, ModelGroup, AgentType, TenantApproval,
    Price, PriceProposal, Attempt, UsageRecord, Adjustment, RateLimit, Budget, BudgetWindow, BudgetAlert,
    WebhookEndpoint, Notification, Delivery, PeriodicTask, Statement, StatementSchedule, Markup, ReconciliationRun,
    AuditChain, AuditEvent, CacheRule, HookBinding, Job, MediaObject, OfferedModel, RealtimeSession, RequestRecord,
    SchemaType, TenantStorage, Membership,
)  # fmt: skip
"""Every model that has pages of its own."""

RECORDS = {
    "attempt",
    "usagerecord",
    "adjustment",
    "budgetwindow",
    "budgetalert",
    "notification",
    "delivery",
    "requestrecord",
    "auditchain",
    "auditevent",
    "mediaobject",
    "realtimesession",
    "job",
}
"""What the platform writes down: nobody edits it."""

NOT_ADDED = RECORDS | {"priceproposal", "periodictask", "statement", "offeredmodel"}
"""What no form adds: proposals come from a command, the schedule from the release, statements from the night, listed
models from providers."""


@dataclass(frozen=True)
class Seeded:
    """The first row of each kind: the one whose page grows with the seed."""

    tenant: Tenant
    model: Model
    group: ModelGroup
    budget: Budget
    statement: Statement
    run: ReconciliationRun

    def page_object(self, model: type[DjangoModel]) -> DjangoModel:
        grown = {type(row): row for row in (
            self.tenant, self.model, self.group, self.budget, self.statement, self.run,
        )}  # fmt: skip
        return grown.get(model) or model._default_manager.order_by("pk").first()


def begin() -> Seeded:
    """The rows that everything else hangs on."""
    provider = make_provider("http://127.0.0.1:9/v1", secret="sk-provider-secret-0001")  # its actions reach nobody
    model = make_model(provider, name="first-model")
    group = ModelGroup.objects.create(name="first-group")
    tenant = Tenant.objects.create(name="first-tenant")
    budget = Budget.objects.create(tenant=tenant, scope="user", period="day", limit_nano_usd=NANO_PER_USD)
    long_ago = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    statement = Statement.objects.create(
        tenant=tenant, tenant_name=tenant.name, period="month", timezone="UTC", starts_at=long_ago,
        ends_at=dt.datetime(2024, 2, 1, tzinfo=dt.UTC),
    )  # fmt: skip
    run = ReconciliationRun.objects.create(
        provider=provider, file_name="usage.csv", first_day=long_ago.date(), last_day=long_ago.date(), lines=1,
        their_tokens=0, our_tokens=0, their_cost_nano_usd=0, our_cost_nano_usd=0,
    )  # fmt: skip
    return Seeded(tenant, model, group, budget, statement, run)


def grow(seeded: Seeded, count: int) -> None:
    """Add `count` rows of every kind, hung on the first ones where a page shows children."""
    tenant, model = seeded.tenant, seeded.model
    for number in range(count):
        Operator.objects.create(username=unique("person"), is_staff=True)
        person = Operator.objects.create(username=unique("member"), is_staff=True, role="member")
        Membership.objects.create(operator=person, tenant=tenant)
        project = Project.objects.create(tenant=tenant, name=unique("project"))
        other = Tenant.objects.create(name=unique("tenant"))
        RateLimit.objects.create(tenant=other, requests_per_minute=60)
        key, _ = make_key(tenant, project=project)
        HookBinding.objects.create(tenant=tenant, project=project, name=unique("hook"), hook="noop")
        provider = make_provider("https://api.example.com/v1")
        credential = store_credential(provider, "sk-provider-secret-0002")
        another = propose_model(Model(name=unique("model"), capabilities=["chat"], successor=model), by=None)
        LifecycleChange.objects.create(model=model, to_state="approved", changed_by=Operator.objects.first())
        deployment = Deployment.objects.create(
            model=model, provider=provider, credential=credential, upstream_model=unique("upstream")
        )
        first = Provider.objects.get(pk=seeded.run.provider_id)
        ProviderHealth.objects.create(provider=first, credential=store_credential(first, "sk-0003", name=unique("key")))
        ProviderHealth.objects.create(provider=provider, credential=credential, status="failing", last_error="HTTP 500")
        Deployment.objects.create(model=another, provider=first, upstream_model=unique("upstream"))
        OfferedModel.objects.create(provider=first, upstream_model=unique("listed"))
        GroupMember.objects.create(group=seeded.group, model=another, position=number)
        ModelGroup.objects.create(name=unique("group"))
        AgentType.objects.create(name=unique("agent"), target=model.name)
        TenantApproval.objects.create(tenant=other, model=model, decided_by=Operator.objects.first())
        moment = timezone.now() - dt.timedelta(days=number + 1)
        set_price(another, read_rates({"input": "1", "cache_read": "0.5"}), valid_from=moment)
        PriceProposal.objects.create(
            model=another, rates={"input": 2}, source="genai-prices", source_version="1", diff=[],
            decided_by=Operator.objects.first(),
        )  # fmt: skip
        charge = add_usage(key, deployment)
        add_adjustment(charge)
        add_audit_event(tenant)
        add_audit_event(other)
        add_request(charge, skipped=[[unique("model"), "cannot do vision"]] * number)
        RealtimeSession.objects.create(
            id=unique("sess"), tenant=charge.tenant, api_key=charge.api_key, requested_model=charge.requested_model,
            model_name=charge.model_name, provider_name=charge.provider_name, process=uuid.uuid4(),
            opened_at=charge.started_at,
        )  # fmt: skip
        add_job(charge, error={"code": "provider_error", "message": "It broke."})
        add_budgets(seeded.budget, other)
        CacheDay.objects.create(
            rule=CacheRule.objects.create(tenant=other, model=model), day=timezone.now().date(), hits=3, misses=1
        )
        add_webhook(tenant)
        SchemaType.objects.create(tenant=other, name="a.type", schema="{}")
        add_media(other)
        add_statements(seeded, other, number=number)


def add_job(charge: UsageRecord, **fields: object) -> Job:
    """A job of the charge's tenant that has failed."""
    moment = timezone.now()
    job = Job.objects.create(**{
        "id": unique("job"), "tenant": charge.tenant, "api_key": charge.api_key, "request_id": unique("asked"),
        "operation": "chat", "endpoint": "/v1/chat/completions", "requested_model": charge.requested_model,
        "status": "failed", "created_at": moment, "next_at": moment, "ended_at": moment, "expires_at": moment,
        **fields,
    })  # fmt: skip
    JobEvent.objects.create(job=job, number=1, at=moment, status=job.status)
    return job


def add_audit_event(tenant: Tenant) -> None:
    """An event in its chain at once: tests' transactions do not commit."""
    record("thing.changed", by=SYSTEM, about=subject_of(tenant), details={"before": {"a": 1}, "after": {"a": 2}})
    connection.check_constraints()


def add_media(tenant: Tenant) -> MediaObject:
    """A picture of the tenant's, whose bytes are nowhere."""
    now = timezone.now()
    row = MediaObject(
        id=new_file_id(), tenant=tenant, kind="image", source="upload", purpose="vision", filename="a.png",
        mime="image/png", size_bytes=5, sha256="0" * 64, width=1, height=1, storage="media_gateway",
        name=f"t/{tenant.pk}/{unique('file')}.png", created_at=now, expires_at=now + dt.timedelta(days=7),
    )  # fmt: skip
    lives = dt.timedelta(days=1)
    add_file(row, Defaults(quota_bytes=10_000, uploads_kept=lives, generated_kept=lives))
    return row


def add_webhook(tenant: Tenant) -> None:
    """A further webhook of the tenant, which hears with all before it of one more thing."""
    create_endpoint(WebhookEndpoint(tenant=tenant, url=f"https://hooks.example.com/{unique('token')}"))
    notify(tenant.pk, "budget.alert", key=unique("key"), data={"percent": 50})
    PeriodicTask.objects.create(
        name=unique("task"), task="t", interval=PeriodicTask.objects.exclude(interval=None)[0].interval
    )


def add_budgets(first: Budget, tenant: Tenant) -> None:
    """Another tenant's budget, and a further user's window, alert and extra of the first one."""
    now = timezone.now()
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD, alert_at=[50])
    window = add_window(first, subject=unique("u"), spent_nano_usd=NANO_PER_USD // 4)
    BudgetAlert.objects.create(window=window, percent=20)
    tomorrow = now + dt.timedelta(days=1)
    operator = Operator.objects.first()
    BudgetOverride.objects.create(
        budget=first, extra_nano_usd=NANO_PER_USD, expires_at=tomorrow, reason="a launch", created_by=operator
    )


def add_statements(first: Seeded, tenant: Tenant, *, number: int) -> None:
    """Another tenant's terms, a further line of the first statement, and a further day of the first reconciliation."""
    StatementSchedule.objects.create(tenant=tenant, period="day")
    Markup.objects.create(tenant=tenant, basis_points=500, valid_from=timezone.now(), reason="a contract")
    line = first.statement.lines.count() + 1
    StatementLine.objects.create(
        statement=first.statement, position=line, kind="usage", project=unique("project"), user=unique("u"),
        model=unique("m"), provider="p", calls=1, cost_nano_usd=10,
    )  # fmt: skip
    day = first.run.first_day + dt.timedelta(days=first.run.rows.count())
    ReconciliationRow.objects.create(
        run=first.run, day=day, model="m", known=True, their_tokens=2, our_tokens=1, their_cost_nano_usd=2,
        our_cost_nano_usd=1,
    )  # fmt: skip
    Statement.objects.create(
        tenant=tenant, tenant_name=tenant.name, period="month", timezone="UTC", starts_at=first.statement.starts_at,
        ends_at=first.statement.ends_at,
    )  # fmt: skip
    fields = dict.fromkeys(("their_tokens", "our_tokens", "their_cost_nano_usd", "our_cost_nano_usd", "lines"), 0)
    ReconciliationRun.objects.create(
        provider=first.run.provider, file_name="usage.csv", first_day=day, last_day=day, **fields
    )


def add_window(budget: Budget, **fields: object) -> BudgetWindow:
    """A window of the budget's period under way."""
    starts_at, ends_at = window_of(budget.period, timezone.now(), zone=ZoneInfo(budget.tenant.timezone))
    return BudgetWindow.objects.create(budget=budget, starts_at=starts_at, ends_at=ends_at, **fields)


def attempt_id_at(moment: dt.datetime) -> uuid.UUID:
    """A UUIDv7 as the ledger makes them, of this moment."""
    noise = random.getrandbits(62)
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | noise)


def add_usage(key: ApiKey, deployment: Deployment, **fields: object) -> UsageRecord:
    """A settled attempt and its charge: 1,000 input and 500 output tokens at the model's price."""
    moment = fields.pop("created_at", None) or timezone.now() - dt.timedelta(minutes=5)
    request_id = fields.pop("request_id", None) or unique("req")
    price = Price.objects.filter(model=deployment.model, valid_from__lte=timezone.now()).first()
    units = {"input": 1000, "output": 500}
    attempt = Attempt.objects.create(
        id=attempt_id_at(moment), request_id=request_id, tenant=key.tenant, api_key=key, deployment=deployment,
        operation="chat", model_name=deployment.model.name, provider_name=deployment.provider.name, state="settled",
        created_at=moment, ended_at=moment,
    )  # fmt: skip
    charged = {
        "ending": "completed", "usage_source": "provider_final", "latency_ms": 900, "input_tokens": 1000,
        "output_tokens": 500, "units": units, "price": price, "operation": "chat", "upstream_model": "up",
        "cost_nano_usd": PriceVersion(0, moment, price.rates).cost_nano_usd(units) if price else 0,
        "requested_model": deployment.model.name, "model_name": deployment.model.name,
        "provider_name": deployment.provider.name, "project": key.project,
    }  # fmt: skip
    charge = UsageRecord.objects.create(
        attempt=attempt,
        created_at=moment,
        started_at=moment,
        request_id=request_id,
        tenant=key.tenant,
        api_key=key,
        **{**charged, **fields},
    )
    roll_up(charge.attempt_id)
    return charge


def add_request(charge: UsageRecord, **fields: object) -> RequestRecord:
    """The log's row of a request that one attempt answered."""
    note = {
        "attempt": str(charge.pk), "deployment": 1, "model": charge.model_name, "provider": charge.provider_name,
        "outcome": "answered", "message": "", "started_ms": 3, "elapsed_ms": 895,
    }  # fmt: skip
    told = {
        "request_id": charge.request_id, "created_at": charge.started_at, "operation": charge.operation,
        "requested_model": charge.requested_model, "status": 200, "stream": False, "latency_ms": 900,
        "upstream_ms": 890, "skipped": [], "attempts": [note],
    }  # fmt: skip
    request: RequestRecord = RequestRecord.objects.create(
        tenant=charge.tenant, api_key=charge.api_key, **{**told, **fields}
    )
    return request


def roll_up(entry_id: uuid.UUID) -> None:
    """Add a charge to its buckets, as the ledger does when it posts one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_roll_up(array_agg(entry)) FROM billing_entry entry WHERE id = %s", [entry_id])


def add_adjustment(charge: UsageRecord) -> Adjustment:
    """A nano-USD more for a charge."""
    return adjust_charge(charge, 1, reason="too little", by=Operator.objects.first())
