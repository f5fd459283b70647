"""The faults of the machine and of its keepers; what is wrong with a district's data is a finding or a hold, never one of these.

IngestError
├── ConfigError      a key of sftp-ingest.toml, or an argument, is wrong; names it (exit code 2)
├── ContractError    a contract file, under schemas/ or of a district's own, cannot be read or contradicts itself (exit code 2)
├── DeliveryError    sealed files are missing or are not the ones that were sealed
├── StoreError       the database said no; `transient` tells whether to try again
│   └── CollisionError   another transaction was in the way, and nothing of this one was kept
├── HoldError        a hold cannot be released or discarded as asked
└── RunError         a run cannot be reverted as asked (exit code 2)
"""

from __future__ import annotations


class IngestError(Exception):
    """A fault told in one sentence that holds no cell of any file."""


class ConfigError(IngestError):
    """Configuration or arguments are wrong; the sentence names the key."""


class ContractError(IngestError):
    """A contract cannot be used; the sentence names the file and the key."""


class DeliveryError(IngestError):
    """A sealed delivery is not what it was when it was sealed."""


class StoreError(IngestError):
    """The database cannot do what was asked; `transient` is true where trying again may help."""

    def __init__(self, sentence: str, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.transient = transient


class CollisionError(StoreError):
    """The database undid a transaction because of another one, in a deadlock or to keep them apart: done again, it may well be kept."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, transient=True)


class HoldError(IngestError):
    """There is no such open hold."""


class RunError(IngestError):
    """There is no such run, or nothing of it that could be reverted."""
