"""Administration of users, images and tags."""
