"""The gallery, uploads and the page of a picture."""
