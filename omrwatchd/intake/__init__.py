"""What puts into the queue: it notices files, waits until they are finished, looks inside, admits."""
