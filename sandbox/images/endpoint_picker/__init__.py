"""Stand-in for llm-d's endpoint picker (llm-d-inference-scheduler). README.md: what it copies and leaves out."""
