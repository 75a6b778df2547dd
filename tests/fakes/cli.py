"""How a gateway is told to run the fake command line program."""

from __future__ import annotations

import shlex
import sys

from tests.engines import ROOT

COMMAND = (sys.executable, str(ROOT / "tests/fakes/cli_program.py"))


def cli_environment(*arguments: str, **settings: str) -> dict[str, str]:
    """Variables for a server with one session of the program, started with these arguments."""
    return {"LLM_CLI_COMMAND": shlex.join([*COMMAND, *arguments]), "LLM_POOL_SIZE": "1", **settings}
