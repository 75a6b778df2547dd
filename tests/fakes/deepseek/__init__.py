"""The parts of the fake DeepSeek server, where it is not the fake OpenAI: validation, answers, the HTTP application."""
