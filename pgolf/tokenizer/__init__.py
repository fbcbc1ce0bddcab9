"""Text to ids and back, with the raw bytes that each id stands for. Imports no torch."""
