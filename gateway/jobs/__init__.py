"""Calls that are worked on while nobody waits: asked for by `"async": true` or `Prefer: respond-async`, or by their
nature where a provider works on them by itself.

A job is a row. Celery's messages only say that there may be something to do; whoever takes a job up says so in its row
(`rows`), and every change of state is an event beside it. `submission` makes a job of a request, `running` sends it
through the same pipeline as any other call, `polling` follows what a provider works on, `recovery` takes up what a dead
worker held.
"""
