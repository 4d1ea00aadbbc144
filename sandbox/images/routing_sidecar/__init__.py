"""Stand-in for the prefill/decode routing sidecar. See README.md for what it copies and what it leaves out."""
