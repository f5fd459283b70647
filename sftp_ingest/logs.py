"""How the log looks: one event a line, for people or as JSON; never a cell of a file."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog

log = structlog.get_logger()


class _Libraries(logging.Handler):
    """What libraries log, as events of ours. The words of an exception may quote a cell, so only its kind and places are told."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record."""
        kind, _, trace = record.exc_info or (None, None, None)
        broke = {"kind": kind.__name__, "places": "".join(traceback.format_tb(trace))} if kind else {}
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        tell("library", library=record.name, told=" ".join(record.getMessage().split()), **broke)


def set_up_logging(form: str, *, quiet: bool = False) -> None:
    """Log to standard error as `text` or `json`, with UTC times, when `quiet` only warnings. Libraries speak only from warnings on, in the same form."""
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line at one go: other threads write between two of ours
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
