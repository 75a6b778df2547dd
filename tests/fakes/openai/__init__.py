"""The parts of the fake OpenAI server: scripts, validation, answers, usage rule, the HTTP application."""
