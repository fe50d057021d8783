"""Networks that say what a whole picture shows, and why."""
