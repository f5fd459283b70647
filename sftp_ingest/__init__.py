"""sftp_ingest: nightly school rosters by SFTP, validated, compared and applied."""

__version__ = "0.1.0"
