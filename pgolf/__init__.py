"""pgolf: the best small language model under hard limits of bytes and seconds."""

__version__ = "0.1.0"
