"""Stand-in for the body-based router. See README.md for what it copies and what it leaves out."""
