"""Voice sessions: `/v1/realtime` and what governs it.

A session's path: `door` takes the handshake, `credentials` says who it is, `opening` finds a provider that answers,
`session` relays. Beside the relay stand `policing` (what clients may ask for), `meter` (what is used), `purse` (what it
is paid from) and `watch` (when it must end). `room` knows the sessions of this process, `rows` those of all.
"""
