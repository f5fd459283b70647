"""Processes of their own, for runs and for clearing away: forked from one that has loaded what they need, and has its memory in large pages."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

_TUNABLES = "GLIBC_TUNABLES"
_LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Has glibc ask for large pages where the kernel gives them to who asks, as many do by default. It is told so when a process begins, or never."""

_beginning = threading.Lock()


def environment() -> dict[str, str]:
    """What runs have in their environment beside what is in ours. With small pages one with millions of rows spends a tenth of its time on being given them.

    What the operator says of large pages himself stays as it is.
    """
    told = os.environ.get(_TUNABLES, "")
    return {_TUNABLES: told if "hugetlb" in told else ":".join(filter(None, (told, _LARGE_PAGES)))}


def begun(target: Callable[..., None], *args: object, name: str) -> BaseProcess:
    """A process that does this, and has begun to. Raises OSError where there is no room for one more."""
    context = multiprocessing.get_context("forkserver")
    # what is forked from loads pandas once; a run then starts in milliseconds, and its memory goes with it
    context.set_forkserver_preload(["sftp_ingest.ready"])
    process = context.Process(target=target, args=args, name=name)
    with _large_pages():
        process.start()
    return process


@contextmanager
def _large_pages() -> Iterator[None]:
    """Inside, what is forked from begins with large pages, if it has not begun yet: it inherits what is then this process's environment."""
    with _beginning:
        before = os.environ.get(_TUNABLES)
        os.environ.update(environment())
        try:
            yield
        finally:
            if before is None:
                del os.environ[_TUNABLES]
            else:
                os.environ[_TUNABLES] = before
