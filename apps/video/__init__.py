"""Clips: upload, follow, watch with boxes."""
