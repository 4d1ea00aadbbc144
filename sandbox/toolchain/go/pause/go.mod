module llmd.gke/sandbox/pause

go 1.26.0
