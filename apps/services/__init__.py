"""What the application can do. No request, form or HTML; collaborators by constructor."""
