"""Registered JSON schemas, tools and answers that are held to them."""
