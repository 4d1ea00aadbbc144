"""Stand-in Helm charts (llm-d-infra, inferencepool, llm-d-modelservice) and their packager."""
