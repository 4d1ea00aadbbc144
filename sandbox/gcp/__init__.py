"""Stand-in for the Google Cloud APIs that a GKE deployment touches. See README.md for what it copies."""
