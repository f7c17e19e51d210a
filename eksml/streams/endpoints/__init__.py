"""Where streams begin and end, as data: each says what it promises as a source and as a sink."""
