"""Secrets in the file: written out, or named by the environment variable that has them."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from gateway.configuration.source import Entry
from gateway.settings import environment_secret


def read_secret(entry: Entry, key: str) -> str | None:
    """A secret written out, or read from the environment variable that `key`_env names."""
    written, variable = entry.get(key), entry.get(f"{key}_env")
    if written is not None and variable is not None:
        raise variable.refuse(f"{key} is given too; keep one of the two.")
    if written is not None:
        if not written.text():
            raise written.refuse("this is empty; write the secret, or leave the key out.")
        return written.text()
    if variable is None:
        return None
    name = variable.text()
    try:
        secret = environment_secret(name)
    except ImproperlyConfigured as error:
        raise variable.refuse(str(error)) from error
    if secret is None:
        raise variable.refuse(f"the environment variable {name} is not set; set it, or leave this out.")
    return secret
