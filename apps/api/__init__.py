"""Programs: tokens, the REST interface, and the protocols of clients that exist."""
