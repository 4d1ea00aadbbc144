"""Builds what the sandbox runs: Go tools, virtual environments, Debian packages, images and charts.

Standard library only: it runs before any virtual environment exists.
"""
