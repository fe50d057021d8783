"""The models this application knows, one file an architecture."""
