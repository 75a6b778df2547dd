"""Every setting, and the only reader of the environment. docs/reference/settings.md lists them for operators.

A secret may also be given as a file: `NAME_FILE` names one that holds the value of `NAME`.
"""

from __future__ import annotations

import base64
import os
import shlex
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

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


def cli_environment() -> dict[str, str]:
    """All that the program of LLM_CLI_COMMAND gets of our environment: nothing of the platform's own."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", *LLM_CLI_ENVIRONMENT)
    return {name: os.environ[name] for name in names if name in os.environ}


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


def _broker_url(redis_url: str) -> str:
    """Celery's form of a Redis URL: it has a name of its own for a unix socket."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{parts.path}?virtual_host={database}"


def _mail_server(url: str) -> tuple[str, int, str, str, bool]:
    """Host, port, user, password, and whether TLS is spoken from the first byte, of smtp://… or smtps://…"""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # Without what it says: that may be a part of the password.
        raise ImproperlyConfigured("EMAIL_URL has no valid port; percent-encode the password.") from error
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ImproperlyConfigured("EMAIL_URL must look like smtps://USER:PASSWORD@HOST:PORT or smtp://HOST:PORT.")
    is_tls = parts.scheme == "smtps"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return parts.hostname, port or (465 if is_tls else 587 if user else 25), user, password, is_tls


def _sinks(setting: str, names: list[str]) -> tuple[str, ...]:
    """Where events go; noop is nowhere."""
    known = ("noop", "database", "json_log", "webhook", "opentelemetry")
    if unknown := [name for name in names if name not in known]:
        raise ImproperlyConfigured(f"{setting} knows {', '.join(known)}, not {unknown[0]!r}.")
    if "noop" in names and len(names) > 1:
        raise ImproperlyConfigured(f"{setting}: noop is for no sink, so it stands alone.")
    return tuple(name for name in names if name != "noop")


DATABASES = {"default": _database(DATABASE_CONNINFO)}
CACHES = {
    "default": {
        "BACKEND": "gateway.optional_redis.OptionalRedisCache",
        "LOCATION": REDIS_CONNECTION,
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }
}

# The data plane ----------------------------------------------------------------------------------------------------
BODY_LIMIT_BYTES = _number("BODY_LIMIT_BYTES", 20 * 1024 * 1024)
CORS_ORIGINS = frozenset(_list("CORS_ORIGINS", "*"))
REDIS_TIMEOUT_MS = _number("REDIS_TIMEOUT_MS", 100)
EMBEDDINGS_WINDOW_MS = _number("EMBEDDINGS_WINDOW_MS", 5)
if not 0 <= EMBEDDINGS_WINDOW_MS <= 1000:
    raise ImproperlyConfigured("EMBEDDINGS_WINDOW_MS must be between 0 and 1000.")
TRUSTED_PROXIES = tuple(ip_network(network) for network in _list("TRUSTED_PROXIES"))
BAD_KEYS_PER_MINUTE = _number("BAD_KEYS_PER_MINUTE", 60)
METRICS_DIR = _text("PROMETHEUS_MULTIPROC_DIR")
METRICS_TOKEN = _text("METRICS_TOKEN")
FLIGHT_DIR = DATA_DIR / "flight"
HEARTBEAT_SECONDS = _number("HEARTBEAT_SECONDS", 5)
PROCESS_DEAD_SECONDS = _number("PROCESS_DEAD_SECONDS", 15)
if not 0 < 2 * HEARTBEAT_SECONDS <= PROCESS_DEAD_SECONDS:
    raise ImproperlyConfigured("PROCESS_DEAD_SECONDS must be at least twice HEARTBEAT_SECONDS.")
CONFIG_STALE_SECONDS = _number("CONFIG_STALE_SECONDS", 900)
DRAINS_AT_ONCE = _number("DRAINS_AT_ONCE", 256)
DRAIN_SECONDS = _number("DRAIN_SECONDS", 120)
DRAIN_SHUTDOWN_SECONDS = _number("DRAIN_SHUTDOWN_SECONDS", 10)
MAX_IN_FLIGHT = _number("MAX_IN_FLIGHT", 2000)
SHUTDOWN_NOTICE_SECONDS = _number("SHUTDOWN_NOTICE_SECONDS", 2)
SHUTDOWN_SECONDS = _number("SHUTDOWN_SECONDS", 300)
FAULT_POINTS = _text("FAULT_POINTS")
REALTIME_SESSIONS = _number("REALTIME_SESSIONS", 500)
REALTIME_IDLE_SECONDS = _number("REALTIME_IDLE_SECONDS", 600)
REALTIME_MAX_SECONDS = _number("REALTIME_MAX_SECONDS", 3600)
REALTIME_CLIENT_SECONDS = _number("REALTIME_CLIENT_SECONDS", 30)
REALTIME_DRAIN_SECONDS = _number("REALTIME_DRAIN_SECONDS", 30)

# Files -------------------------------------------------------------------------------------------------------------
MEDIA_SPOOL_DIR = DATA_DIR / "media" / "spool"
MEDIA_FILE_LIMIT_BYTES = _number("MEDIA_FILE_LIMIT_BYTES", 512 * 1024 * 1024)
MEDIA_QUOTA_BYTES = _number("MEDIA_QUOTA_BYTES", 10 * 1024**3)
MEDIA_UPLOADS_KEPT_HOURS = _number("MEDIA_UPLOADS_KEPT_HOURS", 7 * 24)
MEDIA_GENERATED_KEPT_HOURS = _number("MEDIA_GENERATED_KEPT_HOURS", 24)
MEDIA_FETCH_PRIVATE_HOSTS = frozenset(_list("MEDIA_FETCH_PRIVATE_HOSTS"))
MEDIA_S3_BUCKET = _text("MEDIA_S3_BUCKET")
MEDIA_S3_REDIRECTS = _text("MEDIA_S3_REDIRECTS") == "1"
if any(host.count(":") == 0 for host in MEDIA_FETCH_PRIVATE_HOSTS):
    raise ImproperlyConfigured("Each of MEDIA_FETCH_PRIVATE_HOSTS must be HOST:PORT, such as files.internal:443.")


def _media_storage() -> dict[str, Any]:
    """Where tenants' files are: a bucket if one is named, else a folder."""
    if not MEDIA_S3_BUCKET:
        options: dict[str, Any] = {"location": DATA_DIR / "media" / "files", "base_url": None}
        options.update(file_permissions_mode=0o600, directory_permissions_mode=0o700)
        return {"BACKEND": "gateway.media.backends.LocalMediaStorage", "OPTIONS": options}
    options = {
        "bucket_name": MEDIA_S3_BUCKET,
        "location": _text("MEDIA_S3_PREFIX"),
        "endpoint_url": _text("MEDIA_S3_ENDPOINT_URL") or None,
        "region_name": _text("MEDIA_S3_REGION") or None,
        "access_key": _text("MEDIA_S3_ACCESS_KEY_ID") or None,
        "secret_key": _text("MEDIA_S3_SECRET_ACCESS_KEY") or None,
        "default_acl": None,
        "file_overwrite": False,
        "querystring_auth": True,
        "signature_version": "s3v4",
    }
    return {"BACKEND": "gateway.media.s3.S3MediaStorage", "OPTIONS": options}


STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "media_gateway": _media_storage(),
}

# Backends ----------------------------------------------------------------------------------------------------------
LLM_BACKEND = _text("LLM_BACKEND", "")
if LLM_BACKEND not in ("", "mock", "api", "cli"):
    raise ImproperlyConfigured(f"LLM_BACKEND must be mock, api or cli, not {LLM_BACKEND!r}.")
try:
    LLM_CLI_COMMAND = tuple(shlex.split(_text("LLM_CLI_COMMAND")))
except ValueError as error:
    raise ImproperlyConfigured(f"LLM_CLI_COMMAND cannot be split into words: {error}.") from error
LLM_CLI_ENVIRONMENT = _list("LLM_CLI_ENVIRONMENT")
LLM_CLI_FOLDER = DATA_DIR / "cli"
LLM_POOL_SIZE = _number("LLM_POOL_SIZE", 2)
LLM_POOL_OVERFLOW = _number("LLM_POOL_OVERFLOW", 2)
LLM_KEEP_ALIVE_INTERVAL = _number("LLM_KEEP_ALIVE_INTERVAL", 300)
LLM_REQUEST_TIMEOUT = _number("LLM_REQUEST_TIMEOUT", 60)
if min(LLM_POOL_SIZE, LLM_POOL_OVERFLOW, LLM_KEEP_ALIVE_INTERVAL) < 0 or LLM_REQUEST_TIMEOUT < 1:
    raise ImproperlyConfigured(
        "LLM_POOL_SIZE, LLM_POOL_OVERFLOW and LLM_KEEP_ALIVE_INTERVAL must be 0 at least, LLM_REQUEST_TIMEOUT 1."
    )

MODEL_APPROVERS = _number("MODEL_APPROVERS", 1)
if MODEL_APPROVERS not in (1, 2):
    raise ImproperlyConfigured("MODEL_APPROVERS must be 1 or 2.")
USAGE_RETENTION_MONTHS = _number("USAGE_RETENTION_MONTHS", 25)
if USAGE_RETENTION_MONTHS < 2:
    raise ImproperlyConfigured("USAGE_RETENTION_MONTHS must be at least 2: a month's statement is made in the next.")
REQUEST_LOG_DAYS = _number("REQUEST_LOG_DAYS", 30)

# Audit and usage elsewhere -----------------------------------------------------------------------------------------
AUDIT_SINKS = _sinks("AUDIT_SINKS", _list("AUDIT_SINKS", "database"))
USAGE_SINKS = _sinks("USAGE_SINKS", _list("USAGE_SINKS", "database,json_log"))
if set(AUDIT_SINKS) - {"database"} and "database" not in AUDIT_SINKS:
    raise ImproperlyConfigured("AUDIT_SINKS must have database for the others to be fed: they read the chains.")
SINK_WEBHOOK_URL = _text("SINK_WEBHOOK_URL")
SINK_WEBHOOK_SECRET = _text("SINK_WEBHOOK_SECRET")
SINK_OTLP_URL = _text("SINK_OTLP_URL").rstrip("/")
SINK_OTLP_TOKEN = _text("SINK_OTLP_TOKEN")
for _sink, _name, _given in (
    ("webhook", "SINK_WEBHOOK_URL", SINK_WEBHOOK_URL),
    ("webhook", "SINK_WEBHOOK_SECRET", SINK_WEBHOOK_SECRET),
    ("opentelemetry", "SINK_OTLP_URL", SINK_OTLP_URL),
):
    if _sink in {*AUDIT_SINKS, *USAGE_SINKS} and not _given:
        raise ImproperlyConfigured(f"{_name} must be set for the sink {_sink}.")
AUDIT_RETENTION_MONTHS = _number("AUDIT_RETENTION_MONTHS", 25)
if AUDIT_RETENTION_MONTHS < 0:
    raise ImproperlyConfigured("AUDIT_RETENTION_MONTHS must be 0, which keeps all, or more.")

# Work in the background --------------------------------------------------------------------------------------------
WORKER_CONCURRENCY = _number("WORKER_CONCURRENCY", 2)
JOB_WORKER_CONCURRENCY = _number("JOB_WORKER_CONCURRENCY", 1)
JOBS_AT_ONCE = _number("JOBS_AT_ONCE", 50)
if min(JOB_WORKER_CONCURRENCY, JOBS_AT_ONCE) < 1:
    raise ImproperlyConfigured("JOB_WORKER_CONCURRENCY and JOBS_AT_ONCE must be 1 at least.")
CELERY_TASK_ROUTES = {"gateway.run_jobs": {"queue": "jobs"}}  # long work: other tasks must not wait behind it
CELERY_BROKER_URL = _broker_url(REDIS_CONNECTION)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # What a dead worker had taken up is given to another after this long: longer than any task may take.
    "visibility_timeout": 1800,
    "global_keyprefix": "celery:",
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 840
CELERY_TASK_TIME_LIMIT = 900
CELERY_WORKER_CONCURRENCY = WORKER_CONCURRENCY
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000  # in KiB; then the process is replaced
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 3.0
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False  # the line of a call goes to standard output itself
CELERY_RESULT_EXPIRES = None  # no results, so no nightly clean-up of them
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SYNC_EVERY = 1  # after each task: else the admin learns only after three minutes that it was started

# E-mail --------------------------------------------------------------------------------------------------------------
EMAIL_FROM = _text("EMAIL_FROM", "bursar@localhost")
DEFAULT_FROM_EMAIL = SERVER_EMAIL = EMAIL_FROM
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"
if _email_url := _text("EMAIL_URL"):
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD, EMAIL_USE_SSL = _mail_server(_email_url)
    EMAIL_USE_TLS = bool(EMAIL_HOST_USER) and not EMAIL_USE_SSL

# Django ------------------------------------------------------------------------------------------------------------
ALLOWED_HOSTS = _list("ALLOWED_HOSTS", "*")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
ROOT_URLCONF = "gateway.urls"
ASGI_APPLICATION = "gateway.asgi.application"
AUTH_USER_MODEL = "tenants.Operator"
AUTHENTICATION_BACKENDS = ["tenants.roles.RoleBackend"]
LOGIN_TRIES_PER_MINUTE = _number("LOGIN_TRIES_PER_MINUTE", 5)
REAUTHENTICATION_MINUTES = _number("REAUTHENTICATION_MINUTES", 15)
if REAUTHENTICATION_MINUTES < 0:
    raise ImproperlyConfigured("REAUTHENTICATION_MINUTES must be 0, which asks every time, or more.")
RATELIMIT_FAIL_OPEN = True  # Redis away must not keep operators out
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
    "django_celery_beat",
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
    "tenants.scoping.MemberGate",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "gateway.desk.content_policy.ContentPolicyMiddleware",
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
SECURE_REDIRECT_EXEMPT = [r"^(v1/|health$|ready$|sessions$|metrics$)"]
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
    "DASHBOARD_CALLBACK": "gateway.desk.home.fill_home",
    "STYLES": ["gateway.operator_home.stylesheet", "gateway.desk.stylesheet"],
    "SIDEBAR": {"navigation": "gateway.operator_home.navigation"},
}
