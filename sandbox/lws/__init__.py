"""Stand-in for the LeaderWorkerSet controller. See README.md for what it copies and what it leaves out."""
