"""The benchmark: what the gateway costs per request, beside a direct call and a bare relay, all on loopback.

`make bench` runs it; docs/performance.md says how to read what it prints.
"""
