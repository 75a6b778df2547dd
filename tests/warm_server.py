"""The process that `tests.warm` forks others from: it has imported what they all need and what reads no environment."""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any

# Not the platform, which reads its settings as it is imported; not `prometheus_client`, which looks for its folder.
IMPORTED = (
    "PIL.Image", "aiohttp", "attr.validators", "celery.app.base", "click", "django.contrib.auth.hashers",
    "django.core.asgi", "django.core.management", "django.core.serializers.json",
    "django.db.backends.postgresql.base", "django.db.models", "django.forms", "django.template.defaulttags",
    "django.views.generic", "genai_prices", "httptools", "jsonschema", "jsonschema_rs", "msgspec", "mutagen",
    "openpyxl", "orjson", "psycopg", "pydantic", "redis.asyncio", "reportlab.platypus", "requests", "uvicorn.main",
    "uvloop", "websockets.asyncio.client", "yaml",
)  # fmt: skip


def main() -> None:
    """Answer each order, a line of JSON: one for a process by its id, a question for its end by its exit code."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "module" in order:
            answer: int | None = os.fork()
            if not answer:
                become(order)
        else:
            answer = exit_code(order["pid"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def become(order: dict[str, Any]) -> None:
    """Go on as `python -m MODULE ARGUMENTS`, in another environment, to the end of the process."""
    os.environ.clear()
    os.environ.update(order["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    sys.exit()


def exit_code(pid: int) -> int | None:
    """How a process has ended; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main()
