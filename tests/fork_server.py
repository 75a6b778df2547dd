"""The process that `tests.forked` forks servers from: one for each line of JSON on its standard input."""

import json
import os
import signal
import sys
from dataclasses import replace

import uvicorn

from gateway.asgi import Application
from gateway.runtime import GatewayConfig


def main() -> None:
    """Answer each order with the process id of its server."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are not waited for, and leave no zombies
    config = GatewayConfig.from_settings()
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if pid:
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        descriptor = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        uvicorn.run(
            Application(replace(config, **order["config"])),
            port=order["port"],
            http="httptools",
            loop="uvloop",
            access_log=False,
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=5,
        )
        os._exit(0)


if __name__ == "__main__":
    main()
