"""The edge and what web hosts hear from it: limits, headers, pages, mutual TLS."""
