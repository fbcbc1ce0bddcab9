"""Opens runs and scorers for the auditor, whose probes know nothing of either."""
