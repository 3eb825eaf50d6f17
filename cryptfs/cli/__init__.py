"""The face towards people: one module a group of commands, one place for all that is printed."""
