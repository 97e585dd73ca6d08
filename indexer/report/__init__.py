"""Reports that only read: what is counted in SQL files, how it looks in one module a format."""
