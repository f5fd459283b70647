"""Intake: bytes from a client become a sealed delivery."""
