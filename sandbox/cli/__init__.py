"""The sandbox's command line: ``./sandbox/sandbox``."""
