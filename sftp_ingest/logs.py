"""How the log looks: one event a line, for people or as JSON; never a cell of a file."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logging(form: str, *, quiet: bool = False) -> None:
    """Log to standard error as `text` or `json`, with UTC times, when `quiet` only warnings. Libraries speak only from warnings on."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line at one go: libraries write between two of ours
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
