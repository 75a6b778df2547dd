"""How each deployment is doing, known to every process: circuit breakers, cooldowns, refused credentials, latency."""
