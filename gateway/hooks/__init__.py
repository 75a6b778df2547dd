"""Hooks on what goes to providers and what comes back: allow, block or change it, by rows that operators bind.

`base` is what a hook is; `builtin/` has one file for each; `runner` asks the hooks that are bound to a call, `streams`
does so while an answer is still coming. Nothing here is reached by a call of a tenant that has bound none.
"""
