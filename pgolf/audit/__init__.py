"""The auditor: probes that look for the ways in which a score can be wrong, each with a witness."""
