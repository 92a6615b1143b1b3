"""Settings of the demo: everything that differs between two deployments comes from the environment.

README.md lists the variables. Nothing here knows about hosts, paths or passwords.
"""

import os

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

DEBUG = env.bool("DEBUG", default=False)

# All that is missing, at once: nobody likes to find out one variable per restart.
REQUIRED = ["SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS"] + ([] if DEBUG else ["STATIC_ROOT"])
if missing := [name for name in REQUIRED if not os.environ.get(name)]:
    raise ImproperlyConfigured(
        f"missing in the environment: {', '.join(missing)}. README.md says what each variable holds."
    )

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
if LOG_LEVEL not in (levels := ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]):
    raise ImproperlyConfigured(f"LOG_LEVEL is {LOG_LEVEL!r}, allowed: {', '.join(levels)}")

# Which release is this? Whoever deploys says so; it is in /-/version, every log line and pg_stat_activity.
RELEASE_ID = env.str("RELEASE_ID", default="unreleased")
RELEASE_COMMIT = env.str("RELEASE_COMMIT", default="unknown")

# Not by env(): django-environ takes a value that starts with $ for the name of another variable.
SECRET_KEY = os.environ["SECRET_KEY"]


def comma_separated(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


# While a new key replaces an old one, what was signed with the old one (such as sessions) is still good.
SECRET_KEY_FALLBACKS = comma_separated("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = comma_separated("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = comma_separated("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "notes",  # before rpc4django, because it replaces that one's template
    "words",
    "rpc4django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "demo.middleware.RequestLog",  # first, so that every answer has a request id and a log line
    "demo.middleware.ContentSecurityPolicy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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


def database(url: str, **options: object) -> dict[str, object]:
    """Makes an entry of DATABASES. The URL's query (hostaddr, sslmode, sslrootcert, ...) reaches libpq."""
    entry = env.db_url_config(url)
    if entry["ENGINE"] == "django.db.backends.postgresql":
        entry |= {
            "CONN_MAX_AGE": 60,  # seconds
            "CONN_HEALTH_CHECKS": True,  # a restart of Postgres costs no request
            "OPTIONS": {"application_name": f"demo {RELEASE_ID}"[:63]} | options | entry.get("OPTIONS", {}),
        }
    return entry


# Without limits libpq would wait for minutes: these are seconds to connect, milliseconds without an answer
# from the host, and seconds until a quiet connection is probed, and between probes. A cut is then an error
# in the log, not pages that hang.
LIMITS = {"connect_timeout": 5, "tcp_user_timeout": 5000, "keepalives_idle": 3, "keepalives_interval": 1}
DATABASES = {"default": database(os.environ["DATABASE_URL"], **LIMITS)}
# Copies to read from; replicas.py knows which of them is fresh enough, and for whom. A dead one is given up
# sooner: after 2 seconds to connect, and as many (in milliseconds) without an answer from its host.
for number, url in enumerate(comma_separated("REPLICA_URLS"), 1):
    replica = database(url, connect_timeout=2, tcp_user_timeout=2000)
    DATABASES[f"replica{number}"] = replica | {"TEST": {"MIRROR": "default"}}
if len(DATABASES) > 1:
    DATABASE_ROUTERS = ["demo.replicas.Router"]
    MIDDLEWARE.insert(1, "demo.replicas.ReadYourWrites")  # before all that asks the database
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Other apps share the Redis, and each may use only keys with its own prefix.
CACHE_KEY_PREFIX = env.str("CACHE_KEY_PREFIX", default="demo")
# Without one, each process keeps for itself what it has read a moment ago.
CACHE_URL = os.environ.get("CACHE_URL") or "locmemcache://"
if CACHE_URL.startswith(("redis://", "rediss://")):
    redis_cache = {
        "BACKEND": "demo.cache.RedisCache",  # Redis may be away: no page breaks
        "LOCATION": CACHE_URL,  # as it is: its query has the CA of a rediss://
        "OPTIONS": {
            "socket_connect_timeout": 1,  # seconds; a cache that is slower than this is no help
            "socket_timeout": 1,
        },
    }
    CACHES = {"default": redis_cache | {"KEY_PREFIX": CACHE_KEY_PREFIX}}
else:
    CACHES = {"default": env.cache_url_config(CACHE_URL) | {"KEY_PREFIX": CACHE_KEY_PREFIX}}

# Celery. Without a broker (on your own machine, in tests) a task runs at once, in the process that sends it.
BROKER_URL = os.environ.get("BROKER_URL", "")
CELERY_BROKER_URL = BROKER_URL or "memory://"
CELERY_TASK_ALWAYS_EAGER = not BROKER_URL
CELERY_TASK_IGNORE_RESULT = True  # what a task finds out is in the database
# No task is lost: it is acknowledged when it has ended, so one whose worker died is delivered again.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True  # its process was killed: at once
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # none waits in a worker that is busy, or about to stop
# They are delivered again, so that none runs twice at once.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # The whole worker was killed: after so many seconds. Longer than the longest task, or it runs twice.
    "visibility_timeout": env.int("VISIBILITY_SECONDS", default=900),
    "unacked_restore_throttle": 1,  # look for such tasks every 10 seconds; the default is every 100
    "global_keyprefix": env.str("BROKER_KEY_PREFIX", default="demo:"),  # as for the cache: keys and channels
    "socket_connect_timeout": 1,  # seconds; a visitor waits for it
    "socket_timeout": 5,  # seconds; without it a visitor would wait for ever when Redis hangs
    "socket_keepalive": True,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever: Redis comes back
CELERY_BEAT_SCHEDULE = {"count what was missed": {"task": "words.tasks.count_missed", "schedule": 60.0}}
COUNT_SECONDS = env.float("COUNT_SECONDS", default=0.0)  # lets counting take a while, to watch and to test

# Nothing lives on the web host: sessions are in the database, read through the cache; messages in a cookie.
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

# Each file is served under a name that holds its hash, so browsers may keep it for ever.
# Strict: a page that names a file which collectstatic has not seen is an error, not a broken picture.
STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=None)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        # With DEBUG, runserver serves the files as they are, without collectstatic.
        "BACKEND": f"django.contrib.staticfiles.storage.{'' if DEBUG else 'Manifest'}StaticFilesStorage"
    },
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

TIME_ZONE = "UTC"
USE_TZ = True

# HTTPS. TLS ends at the proxy, which must set this header itself and drop the one a client sent.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = not DEBUG
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^-/(serving|version)$"]  # asked by machines next door, without TLS
SECURE_HSTS_SECONDS = 0 if DEBUG else env.int("HSTS_SECONDS", default=86400)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_HTTPONLY = True
# HSTS for sub-domains (W005) and the browsers' preload list (W021) bind the whole domain, for years: not this
# app's decision.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# Scripts, styles and pictures come from this site alone, and nothing is inline. The admin works with it.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)

# At DEBUG level rpc4django would write whole requests and answers to the log.
RPC4DJANGO_LOG_REQUESTS_RESPONSES = False

# One line of JSON per event on stdout. Who keeps it, and for how long, is the host's business.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "demo.logs.JsonFormatter", "release": RELEASE_ID}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}
    },
    "root": {"handlers": ["stdout"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL, "handlers": []},  # without Django's own console and mail
        # RequestLog has a line for every request, these two keep what it has not: the tracebacks.
        "django.request": {"level": "ERROR"},
        "django.server": {"level": "ERROR", "handlers": [], "propagate": True},
    },
}
