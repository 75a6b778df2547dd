"""The Celery app: work that nobody waits for. `celery -A gateway worker` and `celery -A gateway beat` run it.

What runs when stands in `gateway/schedule.py`; what a task does stands in the service that it calls.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

app = Celery("bursar")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
