"""Voice: how each provider's realtime protocol becomes OpenAI's, which is the one that clients speak."""
