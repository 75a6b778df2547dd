"""The parts of the fake Anthropic server: validation, answers on the wire, errors, the HTTP application."""
