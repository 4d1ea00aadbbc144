"""Stand-in container images: the model server (vLLM) and the endpoint picker, and the builder of their OCI archives."""
