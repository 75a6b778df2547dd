"""The checks can fail: each is run on a copy of the tree as it is, then on the same copy broken on purpose."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
# Nothing listens there: the checks need the settings, not a database. The discard port, so that it stays so.
NO_DATABASE = "postgresql://nobody:none@127.0.0.1:9/none?connect_timeout=1"
NO_REDIS = "redis://127.0.0.1:9/0"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Every file git knows or would add, copied."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    target = tmp_path / "tree"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a tracked file may be deleted and not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run in the copy, with settings that reach no engine and a data folder of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {"DATABASE_URL": NO_DATABASE, "REDIS_URL": NO_REDIS, "DATA_DIR": str(tree.parent / "data")}
    return subprocess.run(command, cwd=tree, env=kept | own, capture_output=True, text=True, check=False, timeout=120)


def imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return run(tree, str(PROGRAMS / "lint-imports"), "--no-cache")


def file_sizes(tree: Path) -> subprocess.CompletedProcess[str]:
    plain = ["-c", os.devnull, "--rootdir", ".", "--noconftest"]
    unneeded = ["-p", "no:django", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    rule = ["tests/house/test_rules.py", "-k", "tree_keeps_the_rule and file_size"]
    return run(tree, sys.executable, "-m", "pytest", *plain, *unneeded, *rule)


def migrations(tree: Path) -> subprocess.CompletedProcess[str]:
    return run(tree, sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")


def plant_upward_import(tree: Path) -> None:
    (tree / "providers/planted.py").write_text('"""Planted."""\n\nimport billing  # noqa: F401\n')


def plant_long_file(tree: Path) -> None:
    (tree / "gateway/planted.py").write_text('"""Planted."""\n' + "VALUE = 1\n" * 500)


def plant_model_field(tree: Path) -> None:
    with (tree / "tenants/models/people.py").open("a") as models:
        models.write('\n\nTenant.add_to_class("planted", models.IntegerField(default=0))\n')


def remove_migration(tree: Path) -> None:
    for migration in (tree / "gateway/migrations").glob("0*.py"):
        migration.unlink()


CHECKS: list[tuple[Callable[[Path], subprocess.CompletedProcess[str]], Callable[[Path], None], str]] = [
    (imports, plant_upward_import, "providers is not allowed to import billing"),
    (file_sizes, plant_long_file, "gateway/planted.py:501: file size"),
    (migrations, plant_model_field, "Add field planted to tenant"),
    (migrations, remove_migration, "gateway/migrations/0001_initial.py"),
]


@pytest.mark.parametrize(("check", "plant", "said"), CHECKS, ids=[plant.__name__ for _, plant, _ in CHECKS])
def test_a_broken_tree_fails_its_check(
    copy: Path,
    check: Callable[[Path], subprocess.CompletedProcess[str]],
    plant: Callable[[Path], None],
    said: str,
) -> None:
    before = check(copy)
    assert before.returncode == 0, before.stdout + before.stderr
    plant(copy)
    after = check(copy)
    assert after.returncode != 0
    assert said in after.stdout + after.stderr
