"""Sending what `tenants.notifications` has written down: by webhook and by e-mail, again and again until it is taken.

`deliver_due` is what the worker calls; `claims` decides who sends what, `webhooks` and `emails` do it.
"""
