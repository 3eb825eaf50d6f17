"""What the store holds: one object class a module. Bytes in, checked values out. No I/O, no clock, no randomness."""

__all__: list[str] = []
