"""What every change passes before it counts: lint, the built artifact, coverage, mutations. See gates/README.md."""
