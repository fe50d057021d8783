"""Pictures in, results out. Imports neither Flask nor the database; torch only inside functions."""
