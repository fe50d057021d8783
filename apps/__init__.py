"""Sightbox: find objects in photographs, on your own machine, with your own accounts."""
