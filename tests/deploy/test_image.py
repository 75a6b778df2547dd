"""The image and the compose file, without a container engine: what they copy is there, what they run starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.data_plane_urls import urlpatterns
from tests.deploy.manifests import DEPLOY, compose, containers, dockerfile, pods, settings_names
from tests.engines import ROOT

OURS = ("migrate", "web", "worker", "jobs", "beat")


def instructions(name: str) -> list[str]:
    return [rest for instruction, rest in dockerfile() if instruction == name]


def command_of_the_image() -> list[str]:
    (command,) = instructions("CMD")
    found: list[str] = json.loads(command)
    return found


def every_command() -> Iterator[tuple[str, ...]]:
    """What is run anywhere in deploy/, the databases aside."""
    yield tuple(command_of_the_image())
    for name in OURS:
        if "command" in compose()["services"][name]:
            yield tuple(compose()["services"][name]["command"])
    for _, template in pods():
        for container in containers(template):
            if "command" in container:
                yield tuple(container["command"])


def test_the_image_is_built_in_two_stages_by_hashes_and_runs_as_nobody() -> None:
    assert len(instructions("FROM")) == 2
    (install,) = (line for line in instructions("RUN") if "pip install" in line)
    assert "--require-hashes" in install and install.endswith("-r /tmp/requirements.txt")
    user = instructions("USER")
    assert user == ["10001:10001"]
    order = [instruction for instruction, _ in dockerfile()]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name in ("RUN", "COPY"))
    assert instructions("EXPOSE") == ["5005"]


def test_each_requirement_has_a_hash() -> None:
    text = (ROOT / "requirements.txt").read_text().replace("\\\n", " ")
    pinned = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert pinned and all("==" in line and "--hash=sha256:" in line for line in pinned)


def test_what_is_copied_is_there_and_let_through() -> None:
    let_through = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {rest.split()[0] for rest in instructions("COPY") if not rest.startswith("--from")}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
    packages = {path.parent.name for path in ROOT.glob("*/apps.py")}
    assert packages | {"templates"} <= copied


def test_the_image_says_how_it_is() -> None:
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    url = re.search(r"http://127\.0\.0\.1:5005(/\w+)", command[2])
    assert url and url[1] in {f"/{pattern.pattern}" for pattern in urlpatterns}
    refused = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    assert refused.returncode == 1, "nobody answers here"


@pytest.mark.parametrize("command", sorted(set(every_command())), ids=shlex.join)
def test_each_command_is_one_that_starts(command: tuple[str, ...]) -> None:
    """Its program knows every option: with --help at the end, it says so instead of running."""
    python, *rest = command
    assert python == "python"
    said = help_of(rest)
    assert said.returncode == 0, said.stderr
    if rest[0] == "manage.py":  # Django forgives what it does not know before a --help
        assert all(option in said.stdout for option in rest if option.startswith("--"))
    else:
        assert help_of([*rest, "--no-such-option"]).returncode == 2


def help_of(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "gateway.settings"}
    return subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_web_process_listens_and_drains_as_the_manifests_say() -> None:
    command = command_of_the_image()
    options = dict(zip(command[4::2], command[5::2], strict=False))
    assert command[:4] == ["python", "-m", "uvicorn", "gateway.asgi:application"]
    assert (options["--host"], options["--port"], options["--workers"]) == ("0.0.0.0", "5005", "1")
    assert command[command.index("--timeout-graceful-shutdown") + 1] == "310"
    assert "--no-proxy-headers" in command


def test_compose_fits_together() -> None:
    file = compose()
    services = file["services"]
    assert set(services) == {*OURS, "postgres", "redis"}
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            wanted = condition["condition"]
            assert other in services, name
            if wanted == "service_healthy":
                assert "test" in services[other]["healthcheck"], other
            else:
                assert wanted == "service_completed_successfully"
                assert services[other]["restart"] in ("no", "on-failure"), "else it never completes"
        assert set(service.get("secrets", ())) <= set(file["secrets"])
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(file["volumes"])
    for name in OURS:
        environment = services[name]["environment"]
        assert set(environment) <= settings_names()
        files = {value for key, value in environment.items() if key.endswith("_FILE")}
        assert files == {f"/run/secrets/{secret}" for secret in services[name]["secrets"]}
        assert services[name]["cap_drop"] == ["ALL"] and services[name]["read_only"]
    assert services["web"]["ports"] == ["127.0.0.1:5005:5005"]
    assert int(services["web"]["stop_grace_period"].removesuffix("s")) > 310 + 10 + 15
    assert services["worker"]["stop_signal"] == services["jobs"]["stop_signal"] == "SIGQUIT"
    dockerfile_path = DEPLOY / services["web"]["build"]["context"] / services["web"]["build"]["dockerfile"]
    assert dockerfile_path.resolve() == DEPLOY / "Dockerfile"


def test_the_secrets_of_compose_are_made_once_and_are_good(tmp_path: Path) -> None:
    script, folder = DEPLOY / "make-secrets.sh", tmp_path / "secrets"
    subprocess.run([script, folder], check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == set(compose()["secrets"])
    assert {Path(secret["file"]).name for secret in compose()["secrets"].values()} == set(made)
    assert folder.stat().st_mode & 0o777 == 0o700
    subprocess.run([script, folder], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made, "made once"

    given = {f"{name.upper()}_FILE": str(folder / name) for name in made if name not in ("postgres_password",)}
    environment = {**os.environ, "PUBLIC_URL": "https://llm.example.com", **given}
    for name in ("DATABASE_URL", "REDIS_URL"):
        environment.pop(name, None)
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={**environment, "DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
