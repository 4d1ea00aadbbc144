"""Stand-in for vLLM's OpenAI-compatible server. See README.md for what it copies and what it leaves out."""
