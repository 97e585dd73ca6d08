"""Rows for other tools: files that are whole, with all that they mean beside the numbers."""
