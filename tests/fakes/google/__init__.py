"""The parts of the fake Gemini server: validation, answers on the wire, errors, the HTTP application."""
