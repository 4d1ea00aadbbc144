"""GKE on one machine: real Kubernetes parts in network namespaces, stand-ins only where no real part can be had."""
