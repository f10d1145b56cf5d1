"""The demo: drawn answer sheets, a scanner, a server on loopback and the real daemon."""
