"""Who may do what: pure functions over signed statements, and the keys that follow from them (docs/membership.md)."""
