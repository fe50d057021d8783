"""Labelled pictures that people bring from elsewhere: pages."""
