"""Roster: a delivery becomes a change set, without database or network."""
