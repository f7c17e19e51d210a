"""Events that are requests: each is handled once in effect, by workers that come with the work."""
