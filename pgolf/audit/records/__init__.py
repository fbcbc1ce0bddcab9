"""The audit of a published records folder, of which only text is known."""
