"""What a well-formed specification must not ask for: each check a pure function of it."""
