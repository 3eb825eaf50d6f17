"""Bytes to bytes: sealing, the key tree, wraps, certificates, key file, words. No I/O, no clock, no vault."""

__all__: list[str] = []
