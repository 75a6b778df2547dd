"""The parts of the fake Ollama server: validation, answers on the wire, the HTTP application."""
