"""The face towards the kernel: POSIX on a vault, and the process that serves it."""

__all__: list[str] = []
