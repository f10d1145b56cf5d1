"""What takes out of the queue: uploads, the server's processing gate, filing, the summary log."""
