"""One file for each provider protocol: pure functions between OpenAI's shape and the provider's bytes."""
