"""KV-cache events as vLLM publishes them over ZeroMQ: message format, MessagePack, wire protocol. See README.md."""
