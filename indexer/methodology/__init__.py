"""What a total means: definitions as data, the windows they speak of, the words they come with, and
how two of them are reconciled. Nothing here reads a database."""
