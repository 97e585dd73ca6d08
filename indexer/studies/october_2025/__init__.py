"""The published numbers of the cascade of 10 October 2025: what their rows are.

published.py reads the files, study.py computes, page.py writes docs/october-2025.md.
"""
