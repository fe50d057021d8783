"""Accounts in the browser: Flask-Security's views with our templates, and the account page."""
