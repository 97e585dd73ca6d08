"""Published numbers of others, read again. A study takes a folder of files and prints its page."""
