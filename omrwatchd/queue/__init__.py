"""What is owed, on disk: jobs, their parts, and each acknowledged chunk."""
