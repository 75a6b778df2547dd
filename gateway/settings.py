"""Every setting, and the only reader of the environment. docs/reference/settings.md lists them for operators.

A secret may also be given as a file: `NAME_FILE` names one that holds the value of `NAME`.
"""

from __future__ import annotations

import base64
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from gateway.embedded import engine_urls
from gateway.local_secrets import local_secret

BASE_DIR = Path(__file__).resolve().parent.parent


def _text(name: str, default: str = "") -> str:
    file = os.environ.get(f"{name}_FILE")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error
    return os.environ.get(name, default)


def _number(name: str, default: int) -> int:
    text = _text(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {text!r}.") from error


def _list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in _text(name, default).split(",") if part.strip()]


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a process of our own, with these values added."""
    return {**os.environ, **extra}


def environment_secret(name: str) -> str | None:
    """The value of a variable that a configuration file names (`api_key_env`, `secret_env`); None when unset."""
    return _text(name) or None


# The platform ------------------------------------------------------------------------------------------------------
HOST = _text("HOST", "127.0.0.1")
PORT = _number("PORT", 5005)
WORKERS = _number("WORKERS", 1)
PUBLIC_URL = _text("PUBLIC_URL", f"http://{HOST}:{PORT}").rstrip("/")
DATA_DIR = Path(_text("DATA_DIR", str(BASE_DIR / ".data"))).resolve()
IS_HTTPS = PUBLIC_URL.startswith("https://")

DEBUG = False
SECRET_KEY = _text("SECRET_KEY") or local_secret(DATA_DIR, "secret_key")
API_KEY_PEPPER = (_text("API_KEY_PEPPER") or local_secret(DATA_DIR, "api_key_pepper")).encode()
try:
    ENCRYPTION_KEYS = [
        base64.b64decode(key, validate=True)
        for key in _list("ENCRYPTION_KEYS") or [local_secret(DATA_DIR, "encryption_key")]
    ]
except ValueError as error:
    raise ImproperlyConfigured("ENCRYPTION_KEYS must be base64.") from error
if any(len(key) != 32 for key in ENCRYPTION_KEYS):
    raise ImproperlyConfigured(
        "Each of ENCRYPTION_KEYS must be 32 bytes in base64, as `openssl rand -base64 32` prints."
    )

# Engines -----------------------------------------------------------------------------------------------------------
DATABASE_URL: str | None = _text("DATABASE_URL") or None
REDIS_URL: str | None = _text("REDIS_URL") or None
_embedded = engine_urls(DATA_DIR)
DATABASE_CONNINFO = DATABASE_URL or _embedded.database_url
REDIS_CONNECTION = REDIS_URL or _embedded.redis_url


def _database(conninfo: str) -> dict[str, Any]:
    """Django's form of a libpq URL; what Django has no name for becomes an option of the driver."""
    given: dict[str, Any] = dict(conninfo_to_dict(conninfo))
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    database = {name: str(given.pop(parameter, "") or "") for name, parameter in names.items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **database,
        "CONN_MAX_AGE": 0,
        "OPTIONS": given,
    }


DATABASES = {"default": _database(DATABASE_CONNINFO)}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_CONNECTION}}

# The data plane ----------------------------------------------------------------------------------------------------
BODY_LIMIT_BYTES = _number("BODY_LIMIT_BYTES", 20 * 1024 * 1024)
CORS_ORIGINS = frozenset(_list("CORS_ORIGINS", "*"))
REDIS_TIMEOUT_MS = _number("REDIS_TIMEOUT_MS", 100)
TRUSTED_PROXIES = tuple(ip_network(network) for network in _list("TRUSTED_PROXIES"))
METRICS_DIR = _text("PROMETHEUS_MULTIPROC_DIR")
METRICS_TOKEN = _text("METRICS_TOKEN")
FLIGHT_DIR = DATA_DIR / "flight"
HEARTBEAT_SECONDS = _number("HEARTBEAT_SECONDS", 5)
PROCESS_DEAD_SECONDS = _number("PROCESS_DEAD_SECONDS", 15)
if not 0 < 2 * HEARTBEAT_SECONDS <= PROCESS_DEAD_SECONDS:
    raise ImproperlyConfigured("PROCESS_DEAD_SECONDS must be at least twice HEARTBEAT_SECONDS.")

# Django ------------------------------------------------------------------------------------------------------------
ALLOWED_HOSTS = _list("ALLOWED_HOSTS", "*")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
ROOT_URLCONF = "gateway.urls"
ASGI_APPLICATION = "gateway.asgi.application"
AUTH_USER_MODEL = "tenants.Operator"
AUTHENTICATION_BACKENDS = ["tenants.roles.RoleBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "gateway",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "tenants",
    "providers",
    "billing",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True  # the admin's files are served from the packages they come in: nothing to collect
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
REST_FRAMEWORK: dict[str, Any] = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}

SESSION_COOKIE_SECURE = IS_HTTPS
CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = IS_HTTPS
SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^(v1/|health$|ready$|metrics$)"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "gateway.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": _text("LOG_LEVEL", "INFO")},
}

UNFOLD = {
    "SITE_TITLE": "Bursar",
    "SITE_HEADER": "Bursar",
    "SITE_SUBHEADER": "LLM gateway",
    "SITE_URL": None,
    "SITE_SYMBOL": "account_balance",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "gateway.operator_home.icon"}],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .214 259.8)",
            "600": "oklch(54.6% .245 262.9)",
            "700": "oklch(48.8% .243 264.4)",
            "800": "oklch(42.4% .199 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        }
    },
    "DASHBOARD_CALLBACK": "gateway.operator_home.fill_home",
    "STYLES": ["gateway.operator_home.stylesheet"],
    "SIDEBAR": {"navigation": "gateway.operator_home.navigation"},
}
