"""Writers of sinks: each makes the effects of an epoch happen once its checkpoint stands."""
