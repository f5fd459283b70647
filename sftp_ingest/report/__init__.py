"""Report: a run told to people."""
