"""Real Kubernetes clusters as GKE would run them: a control plane by kwokctl, nodes of containerd and kubelet.

``sandbox.kubernetes.manager.ClusterManager`` is what the emulated container API uses. Nothing is imported here, so
that the first process of a machine (``sandbox.kubernetes.pid1``) stays small.
"""
