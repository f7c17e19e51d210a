"""What is done with events: each step as data, and the operator that does it in a task."""
