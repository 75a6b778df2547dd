"""A gateway of our own to measure: fresh engines, an empty database, one tenant, the mock as its only provider, and one
uvicorn worker, with metering and ledger on as in production.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchError
from bench.load import Target
from bench.servers import ROOT, uvicorn_server
from bench.workloads import EMBEDDING_MODEL, MODELS
from gateway.embedded import EngineError, RunningEngines, start_engines
from tenants.keys import generate_key

KEY_VARIABLE = "BENCH_API_KEY"
GOVERNED_KEY_VARIABLE = "BENCH_GOVERNED_API_KEY"
HOOKED_KEY_VARIABLE = "BENCH_HOOKED_API_KEY"
FAR_USD = "1000000"
FAR_COUNT = 10_000_000
"""Budgets and limits that no run reaches: they cost what they cost and refuse nothing."""
SPEECH_MODEL = "bench-speech"
MANAGE_TIMEOUT_SECONDS = 180
NO_SETTINGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class PrivateGateway:
    """A running gateway: as a tenant without any limit is served, as one with budgets and limits at all levels is, and
    as one whose hooks do nothing.

    `engines`: the root process of each database server by name.
    """

    free: Target
    governed: Target
    hooked: Target
    engines: Mapping[str, int]
    database_url: str


@contextmanager
def private_gateway(
    provider_url: str, scratch: Path, *, workers: int = 1, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[PrivateGateway]:
    """Yields the gateway when it is ready; `settings` are variables that it is given besides.

    Raises BenchError when one of its parts does not start.
    """
    data_dir = scratch / "data"
    key, governed_key, hooked_key = generate_key(), generate_key(), generate_key()
    with engines_in(data_dir) as engines:
        environment = {
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": engines.database_url or "",
            "REDIS_URL": engines.redis_url or "",
            KEY_VARIABLE: key,
            GOVERNED_KEY_VARIABLE: governed_key,
            HOOKED_KEY_VARIABLE: hooked_key,
            **settings,
        }
        manage(["migrate", "--verbosity", "0"], environment)
        manage(["apply", "-"], environment, stdin=json.dumps(configuration(provider_url)))
        application = "gateway.asgi:application"
        with uvicorn_server(
            application, "gateway", scratch=scratch, environment=environment, workers=workers
        ) as target:
            yield PrivateGateway(
                free=replace(target, key=key),
                governed=replace(target, name="governed", key=governed_key),
                hooked=replace(target, name="hooked", key=hooked_key),
                engines={process.launch.name: process.pid for process in engines.processes},
                database_url=engines.database_url or "",
            )


def configuration(provider_url: str) -> dict[str, object]:
    """What `manage.py apply` is given: the mock's models with prices, tenants without limits, with many, with hooks."""
    return {
        "providers": [
            {
                "name": "bench",
                "kind": "openai_compatible",
                "base_url": f"{provider_url}/v1",
                "api_key": "any",
                "allow_private_network": True,
            }
        ],
        "models": [*(_model(name) for name in MODELS), _speech_model()],
        "tenants": [
            {
                "name": "bench",
                "approved": [*MODELS, SPEECH_MODEL],
                "keys": [{"name": "bench", "secret_env": KEY_VARIABLE}],
            },
            _governed_tenant(),
            _hooked_tenant(),
        ],
    }


def _governed_tenant() -> dict[str, object]:
    """Hard budgets at four scopes, rate limits at three levels."""
    limits = {"rpm": FAR_COUNT, "tpm": 1000 * FAR_COUNT, "concurrency": 10_000}
    return {
        "name": "governed",
        "approved": list(MODELS),
        "keys": [{"name": "governed", "project": "web", "user": "u-1", "secret_env": GOVERNED_KEY_VARIABLE}],
        "budgets": [
            {"scope": scope, "period": "month", "limit_usd": FAR_USD, "hard": True, "alert_at": [50, 80, 100]}
            for scope in ("tenant", "project", "user", "model")
        ],
        "limits": [{"scope": scope, **limits} for scope in ("tenant", "project", "key")],
    }


def _hooked_tenant() -> dict[str, object]:
    """A hook that allows everything, asked before each call, and about each whole answer; streams pass it."""
    return {
        "name": "hooked",
        "approved": list(MODELS),
        "keys": [{"name": "hooked", "secret_env": HOOKED_KEY_VARIABLE}],
        "hooks": [{"name": "noop", "hook": "noop"}],
    }


def _model(name: str) -> dict[str, object]:
    model: dict[str, object] = {
        "name": name,
        "context_window": 128_000,
        "deployments": [{"provider": "bench", "upstream_model": name}],
    }
    if name == EMBEDDING_MODEL:
        return {**model, "capabilities": ["embeddings"], "prices": {"input": "0.02"}}
    prices = {"input": "0.15", "output": "0.60"}
    return {**model, "capabilities": ["chat", "stream"], "max_output_tokens": 4096, "prices": prices}


def _speech_model() -> dict[str, object]:
    return {
        "name": SPEECH_MODEL,
        "capabilities": ["speech"],
        "prices": {"input": "0.60", "audio_output": "12"},
        "deployments": [{"provider": "bench", "upstream_model": SPEECH_MODEL}],
    }


@contextmanager
def engines_in(data_dir: Path) -> Iterator[RunningEngines]:
    """Fresh engines, for as long as the block runs. Raises BenchError."""
    try:
        with start_engines(data_dir) as engines:
            yield engines
    except EngineError as error:
        raise BenchError(str(error)) from error


def manage(arguments: list[str], environment: Mapping[str, str], *, stdin: str = "") -> None:
    """Run one of our commands. Raises BenchError."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        input=stdin,
        text=True,
        capture_output=True,
        timeout=MANAGE_TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise BenchError(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
