"""What operators see: metric names, the access log, dashboards and alerts. Pure data, no Ray."""
