"""The fixity pipeline: restore-init, retrieve, check."""
