"""`python -m sftp_ingest` is `sftp-ingest`."""

from sftp_ingest.cli import main

if __name__ == "__main__":
    main()
