"""What all stages share: the worker process, leases kept, one stage run from manifest to committed outcome."""
