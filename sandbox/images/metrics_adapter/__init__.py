"""Stand-in for the Custom Metrics Stackdriver Adapter."""
