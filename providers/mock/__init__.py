"""What the offline mock provider says. The door is `providers.mock_provider`; nothing here does I/O."""
