"""Sessions of a program that answers requests line by line. docs/reference/cli-backend.md has the protocol."""

CHAT_URL = "cli://pool/chat"
HEALTH_URL = "cli://pool/health"
"""The only addresses there are: nothing in them says what is run."""
