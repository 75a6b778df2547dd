"""The hooks there are, one file each. `gateway.hooks.registry` finds them by their line `HOOK = …`."""
