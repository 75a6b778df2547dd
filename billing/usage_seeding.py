"""Usage by the million, to measure with: tenants, attempts, charges and buckets that balance.

Everything is made inside the database, a day at a time, and looks like traffic: the busiest of 200 tenants has 7 % of
the calls, each has its projects, keys and users, and a monthly budget that all of it is spent in.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection, transaction
from django.utils import timezone

from billing.models import Attempt, Budget, BudgetWindow, UsageRecord
from billing.models.budgets import HIGHEST_LIMIT_NANO_USD
from billing.services import read_rates, set_price
from providers.models import Deployment, Lifecycle, Model, Provider
from providers.services import move_model, propose_model
from tenants.models import Project, Tenant
from tenants.services import KeySettings, create_key

MODELS = ("seed-small", "seed-large", "seed-code", "seed-embed", "seed-vision")
PRICES = {"input": "0.15", "output": "0.60"}
PROJECTS = 2
KEYS = 3
USERS = 50
"""Of each tenant."""

PAYER = """
CREATE TEMPORARY TABLE seed_payer AS
SELECT row_number() OVER (ORDER BY tenant.id) - 1 AS place, tenant.id AS tenant_id,
    (SELECT array_agg(key.id ORDER BY key.id) FROM tenants_apikey key WHERE key.tenant_id = tenant.id) AS keys,
    (SELECT array_agg(key.project_id ORDER BY key.id) FROM tenants_apikey key WHERE key.tenant_id = tenant.id)
        AS projects
FROM tenants_tenant tenant WHERE tenant.name LIKE 'seed-%%'
"""
OFFER = """
CREATE TEMPORARY TABLE seed_offer AS
SELECT row_number() OVER (ORDER BY model.id) - 1 AS place, model.name AS model_name, price.id AS price_id,
    deployment.id AS deployment_id, provider.name AS provider_name
FROM providers_model model JOIN billing_price price ON price.model_id = model.id
JOIN providers_deployment deployment ON deployment.model_id = model.id
JOIN providers_provider provider ON provider.id = deployment.provider_id
WHERE model.name LIKE 'seed-%%'
"""
CALLS = """
CREATE TEMPORARY TABLE seed_call AS
SELECT *, (input_tokens * 150000 + output_tokens * 600000 + 500) / 1000 AS cost_nano_usd,
    (lpad(to_hex((extract(epoch FROM posted) * 1000)::bigint), 12, '0') || '7'
        || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid AS id
FROM (
    SELECT %(first)s + number AS number, %(start)s + random() * (%(end)s - %(start)s) AS posted,
        floor(power(random(), 2) * %(tenants)s)::int AS payer, floor(power(random(), 2) * %(offers)s)::int AS offer,
        1 + floor(random() * %(keys)s)::int AS key, 1 + floor(power(random(), 2) * %(users)s)::int AS person,
        random() AS luck, 50 + floor(random() * 4000)::bigint AS input_tokens,
        10 + floor(random() * 800)::bigint AS output_tokens
    FROM generate_series(1, %(rows)s) AS number
) AS drawn
ORDER BY posted
"""
JOINED = """
FROM seed_call JOIN seed_payer ON seed_payer.place = seed_call.payer
JOIN seed_offer ON seed_offer.place = seed_call.offer
JOIN billing_budget budget ON budget.tenant_id = seed_payer.tenant_id
JOIN billing_budgetwindow held ON held.budget_id = budget.id AND held.starts_at <= posted AND held.ends_at > posted
"""
ATTEMPTS = f"""
INSERT INTO billing_attempt (id, request_id, tenant_id, api_key_id, deployment_id, operation, model_name, provider_name,
    state, failure, created_at, ended_at, reserved_nano_usd, windows, max_output_tokens)
SELECT seed_call.id, 'seed-' || number, seed_payer.tenant_id, keys[key], deployment_id, 'chat', model_name,
    provider_name, 'settled', '', posted - interval '1 second', posted, 2 * cost_nano_usd, ARRAY[held.id], 810
{JOINED} ORDER BY posted
"""
CHARGES = f"""
INSERT INTO billing_usagerecord (attempt_id, created_at, started_at, request_id, tenant_id, project_id, api_key_id,
    "user", conversation, agent, agent_type, operation, requested_model, model_name, provider_name, upstream_model,
    stream, ending, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, units,
    provider_usage, usage_source, price_id, cost_nano_usd, latency_ms, first_content_ms)
SELECT seed_call.id, posted, posted - interval '1 second', 'seed-' || number, seed_payer.tenant_id, projects[key],
    keys[key], 'user-' || person, '', '', '', 'chat', model_name, model_name, provider_name, model_name,
    luck < 0.5, CASE WHEN luck < 0.97 THEN 'completed' WHEN luck < 0.99 THEN 'client_left' ELSE 'failed' END,
    input_tokens, output_tokens, 0, 0, 0,
    jsonb_build_object('input', input_tokens, 'output', output_tokens),
    jsonb_build_object('prompt_tokens', input_tokens, 'completion_tokens', output_tokens),
    'provider_final', price_id, cost_nano_usd, 300 + floor(luck * 1000), 200
{JOINED} ORDER BY posted
"""
SPENDING = f"""
UPDATE billing_budgetwindow SET spent_nano_usd = spent_nano_usd + total.nano_usd
FROM (SELECT held.id AS window_id, sum(cost_nano_usd)::bigint AS nano_usd {JOINED} GROUP BY held.id) AS total
WHERE billing_budgetwindow.id = total.window_id
"""  # noqa: S608 -- our own constants


@dataclass(frozen=True, slots=True)
class Progress:
    """How far seeding is."""

    rows: int
    of_rows: int
    seconds_left: float


def seed_usage(*, rows: int, days: int, tenants: int, say: Callable[[Progress], None] = lambda progress: None) -> None:
    """Write so many charges, spread over the days until now. Raises ValueError where the ledger is not empty."""
    if UsageRecord.objects.exists() or Attempt.objects.exists() or Tenant.objects.exists():
        raise ValueError("This platform is in use: only an empty one is seeded.")
    if not (rows >= days >= 1 and tenants >= 1):
        raise ValueError("Seed at least one tenant, one day, and one call a day.")
    now = timezone.now()
    start = now - dt.timedelta(days=days)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        _make_payers(tenants, start=start, now=now)
        cursor.execute("SELECT ledger_make_partitions(%s, %s)", [start, days // 28 + 2])
        for statement in (PAYER, OFFER, "ANALYZE seed_payer, seed_offer, billing_budgetwindow"):
            cursor.execute(statement, [] if "%%" in statement else None)
        begun, written = time.monotonic(), 0
        for day in range(days):
            share = rows * (day + 1) // days - written
            day_start = start + dt.timedelta(days=day)
            _seed_day(day_start, first=written, rows=share, tenants=tenants)
            written += share
            per_row = (time.monotonic() - begun) / written
            say(Progress(written, rows, per_row * (rows - written)))
        cursor.execute("DROP TABLE seed_payer, seed_offer")
        for table in ("billing_attempt", "billing_usagerecord", "billing_usagehour", "billing_usageday"):
            cursor.execute(f"VACUUM (ANALYZE) {table}")
        cursor.execute("VACUUM (ANALYZE) billing_userday")
        cursor.execute("RESET synchronous_commit")


def _seed_day(start: dt.datetime, *, first: int, rows: int, tenants: int) -> None:
    """One day's calls: all of it or nothing."""
    end = start + dt.timedelta(days=1)
    drawn: dict[str, int | dt.datetime] = {
        "first": first, "start": start, "end": end, "tenants": tenants, "offers": len(MODELS), "keys": KEYS,
        "users": USERS, "rows": rows,
    }  # fmt: skip
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CALLS, drawn)
        cursor.execute("ANALYZE seed_call")
        cursor.execute(ATTEMPTS)
        cursor.execute(CHARGES)
        cursor.execute(SPENDING)
        cursor.execute("SELECT ledger_roll_up_between(%s, %s)", [start, end])
        cursor.execute("DROP TABLE seed_call")


def _make_payers(tenants: int, *, start: dt.datetime, now: dt.datetime) -> None:
    """Models with prices, and tenants with projects, keys and budgets, with the windows of every month in between."""
    provider = Provider.objects.create(name="seed-provider", kind="mock", base_url="mock://local")
    for name in MODELS:
        model = propose_model(Model(name=name, capabilities=["chat"]), by=None)
        Deployment.objects.create(model=model, provider=provider, upstream_model=name)
        move_model(model, Lifecycle.APPROVED, by=None)
        set_price(model, read_rates(PRICES), valid_from=start)
    for number in range(tenants):
        tenant = Tenant.objects.create(name=f"seed-{number:04}")
        projects = [Project.objects.create(tenant=tenant, name=f"project-{place}") for place in range(PROJECTS)]
        for place in range(KEYS):
            create_key(tenant, f"key-{place}", allowed=KeySettings(project=projects[place % PROJECTS]))
        budget = Budget.objects.create(tenant=tenant, limit_nano_usd=HIGHEST_LIMIT_NANO_USD)
        month = start.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        while month <= now:
            end = (month + dt.timedelta(days=32)).replace(day=1)
            BudgetWindow.objects.create(
                budget=budget, starts_at=month, ends_at=end, ceiling_nano_usd=HIGHEST_LIMIT_NANO_USD
            )
            month = end
